"""A policy server as seen from the simulator: asked with a deadline.

Runs on Python 3.7 to 3.13 beside CARLA's client; needs websockets and msgpack,
which openpi-client brings.
"""

import contextlib
import socket
import struct
import time
from urllib import parse

from websockets import exceptions
from websockets.sync import client

from data_pipeline import errors, ticks, wire

LARGEST = 1 << 20  # bytes of an answer; a plan has 1000
CONNECT_S = 2.0  # for one try
CLOSE_S = 1.0    # for a goodbye


class Unavailable(ticks.Fault):
  """No answer in time, or no connection; the next call tries anew."""


class Refused(ticks.Fault):
  """The server's word that it will not plan, and why."""


class RemotePolicy:
  """Plans of the server at `url`; keeps no connection that owes an answer."""

  def __init__(self, url, api_key=None, timeout_s=10.0):
    """Args: url: ws://host:port; timeout_s: for one answer."""
    target = parse.urlsplit(url)
    if target.scheme != "ws" or not target.hostname:
      raise errors.ConfigError(
          f"server is {url!r}; write ws://HOST:PORT, and use a tunnel where "
          "the network is not to be trusted")
    self.url, self._timeout_s = url, timeout_s
    self._address = (target.hostname, target.port or 80)
    self._headers = {"Authorization": "Api-Key " + api_key} if api_key else {}
    self._connection, self._open = None, contextlib.ExitStack()
    self.metadata = None

  def wait(self, seconds):
    """Connects, trying for so long; returns the server's metadata.

    Raises:
      Unavailable: there was no server.
      Refused: it wants another API key.
    """
    end = time.monotonic() + seconds
    while True:
      try:
        self._connect()
        return self.metadata
      except Unavailable:
        if time.monotonic() > end:
          raise
        time.sleep(0.5)

  def plan(self, observation):
    """Observation -> answer; see drivemoe_jax.policy.Policy.

    Raises:
      Unavailable, Refused.
    """
    if self._connection is None:
      self._connect()
    try:
      self._connection.send(wire.pack(observation))
      answer = self._connection.recv(timeout=self._timeout_s)
    except TimeoutError:
      # The late answer would be taken for that of the next observation.
      self.close()
      raise Unavailable("late", f"{self.url} did not answer in "
                        f"{self._timeout_s:g} s") from None
    except (OSError, exceptions.WebSocketException) as error:
      self.close()
      raise Unavailable("server", f"{self.url} is gone ({error})") from None
    if isinstance(answer, str):
      raise Refused("server", answer)
    return self._read(answer)

  def close(self):
    """Drops the connection; the next plan makes a new one."""
    self._connection = None
    self._open.close()

  def _connect(self):
    self.close()
    try:
      # Our own socket: no proxy of the environment stands in between.
      raw = socket.create_connection(self._address, CONNECT_S)
      raw.settimeout(None)
      # websockets waits without end for a server that stops reading.
      raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack(
          "ll", int(self._timeout_s), int(self._timeout_s % 1 * 1e6)))
      self._connection = self._open.enter_context(client.connect(
          self.url, sock=raw, compression=None, max_size=LARGEST,
          open_timeout=CONNECT_S, close_timeout=CLOSE_S,
          additional_headers=self._headers))
      metadata = self._connection.recv(timeout=CONNECT_S)
    # A peer that hangs up before its answer: EOFError in websockets 13.
    except (OSError, EOFError, exceptions.WebSocketException) as error:
      self.close()
      response = getattr(error, "response", None)
      if response is not None and response.status_code == 401:
        raise Refused("server", f"{self.url} wants another API key") from None
      raise Unavailable(
          "server", f"no server at {self.url} ({error})") from None
    self.metadata = self._read(metadata)

  def _read(self, data):
    try:
      message = wire.unpack(data)
      if isinstance(message, dict):
        return message
      why = f"it sent a {type(message).__name__}"
    except (errors.DataError, TypeError) as error:
      why = error
    self.close()
    raise Unavailable("server", f"{self.url} is no policy server ({why})")
