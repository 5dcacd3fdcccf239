"""The agent's connection: deadlines, and servers that are none.

What it does beside a real server is tested with the agent.
"""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest
from websockets import exceptions
from websockets.sync import server

from data_pipeline import errors, wire
from launch.carla import remote


@contextlib.contextmanager
def answering(handle, **kw):
  """A RemotePolicy of a server that does to a connection what it is told."""
  with server.serve(handle, "127.0.0.1", 0, compression=None, **kw) as running:
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    port = running.socket.getsockname()[1]
    policy = remote.RemotePolicy(f"ws://127.0.0.1:{port}", timeout_s=0.4)
    yield policy
    policy.close()
    running.shutdown()
    thread.join()


def test_a_server_that_stops_reading_is_given_up():
  done = threading.Event()

  def handle(link):
    link.send(wire.pack({"protocol": 1}))
    done.wait(20)

  with answering(handle, max_queue=1, max_size=None) as policy:
    assert policy.wait(5.0) == {"protocol": 1}
    with pytest.raises(remote.Unavailable, match="is gone|did not answer"):
      policy.plan({"images": np.zeros(2**26, np.uint8)})
    done.set()


def test_a_late_answer_is_not_taken_for_the_next_one():
  late = threading.Event()

  def handle(link):
    link.send(wire.pack({"protocol": 1}))
    with contextlib.suppress(exceptions.ConnectionClosed):
      for message in link:
        if not late.is_set():
          late.wait(20)
        link.send(message)

  with answering(handle) as policy:
    with pytest.raises(remote.Unavailable, match="did not answer in 0.4 s"):
      policy.plan({"step": 1})
    late.set()
    time.sleep(0.1)
    assert policy.plan({"step": 2}) == {"step": 2}


@pytest.mark.parametrize("first", [b"\xc1", b"\x01", "text", wire.pack([1])])
def test_what_speaks_otherwise_is_no_policy_server(first):
  with answering(lambda link: (link.send(first), link.recv())) as policy:
    with pytest.raises(remote.Unavailable, match="no policy server"):
      policy.wait(0.0)


def test_a_peer_that_hangs_up_at_once_is_no_server_yet():
  # As a tunnel does whose far end is not listening.
  with socket.create_server(("127.0.0.1", 0)) as listener:
    def hang_up():
      while True:
        try:
          listener.accept()[0].close()
        except OSError:
          return
    threading.Thread(target=hang_up, daemon=True).start()
    policy = remote.RemotePolicy(
        f"ws://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.4)
    for call in (lambda: policy.wait(0.0), lambda: policy.plan({})):
      with pytest.raises(remote.Unavailable, match="no server at"):
        call()


@pytest.mark.parametrize("old", [EOFError("stream ended"), OSError("reset")])
def test_every_way_of_hanging_up_is_retried(monkeypatch, old):
  def connect(*args, **kw):  # websockets 13, of Python 3.8, lets EOFError out
    raise old
  with answering(lambda link: link.recv()) as policy:
    monkeypatch.setattr(remote.client, "connect", connect)
    with pytest.raises(remote.Unavailable, match=str(old)):
      policy.wait(0.0)


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
  monkeypatch.setattr(remote, "CONNECT_S", 0.3)
  with answering(lambda link: link.recv()) as policy:
    with pytest.raises(remote.Unavailable, match="no server at"):
      policy.plan({})


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "wss://host:1", "ws://", ""])
def test_only_plain_addresses_are_taken(url):
  with pytest.raises(errors.ConfigError, match="ws://HOST:PORT"):
    remote.RemotePolicy(url)
