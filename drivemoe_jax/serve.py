"""A policy behind a websocket, in openpi's protocol.

After the handshake the server sends its metadata, then answers each binary
message, an observation, with a plan. What is wrong with a message is said in a
text message, which openpi's clients raise, and the connection lives on.
Observations that arrive while the policy is busy are planned together.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import hmac
import http
import logging
import threading
import time

import websockets
from websockets.asyncio import server as ws_server

from data_pipeline import errors, wire

logger = logging.getLogger(__name__)

MAX_FAULTS = 20        # bad messages in a row that end a connection
OVERHEAD_BYTES = 2**16  # of a message beside its images


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one server takes.

  Attributes:
    batch: observations planned together. clients: open connections.
    rate_hz: messages of one connection; faster ones wait.
    message_bytes: of a message; larger ones end the connection. None allows
      twice the images.
  """

  batch: int = 8
  clients: int = 32
  rate_hz: float = 100.0
  message_bytes: int | None = None


class Server:
  """Serves one policy; see policy.Policy for what it must offer."""

  def __init__(self, policy, *, host="127.0.0.1", port=0, api_key=None,
               limits=None):
    """Args:
      policy: warmed up for batches of limits.batch; has `metadata`, `example`,
        `check` and `plan`.
      host, port: to listen on; port 0 takes a free one, see `run`.
      api_key: what clients must send as `Authorization: Api-Key ...`.
      limits: Limits.
    """
    self._policy, self._host, self._port = policy, host, port
    self._api_key, self._limits = api_key, limits or Limits()
    self._max_size = self._limits.message_bytes or (
        2 * policy.example()["images"].nbytes + OVERHEAD_BYTES)
    self._clients = 0
    self._metadata = wire.pack(policy.metadata)

  async def run(self, ready=lambda port: None):
    """Listens until cancelled; calls ready(port) once it does."""
    self._queue = asyncio.Queue()
    # One thread: the policy is computed a batch at a time.
    with concurrent.futures.ThreadPoolExecutor(1) as self._thread:
      planner = asyncio.create_task(self._plan_batches())
      try:
        async with ws_server.serve(
            self._client, self._host, self._port, compression=None,
            process_request=self._admit, max_size=self._max_size, max_queue=1,
            # A simulator that loads a town answers no ping for minutes.
            ping_interval=30, ping_timeout=300) as listening:
          ready(listening.sockets[0].getsockname()[1])
          await listening.serve_forever()
      finally:
        planner.cancel()

  def _admit(self, connection, request):
    """Answers health checks, turns away who may not come in."""
    if request.path == "/healthz":
      return connection.respond(http.HTTPStatus.OK, "OK\n")
    if self._api_key is not None:
      sent = request.headers.get("Authorization", "")
      wanted = f"Api-Key {self._api_key}"
      if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"),
                                 wanted.encode()):
        return connection.respond(
            http.HTTPStatus.UNAUTHORIZED, "E-KEY: wrong or no API key\n")
    if self._clients >= self._limits.clients:
      return connection.respond(
          http.HTTPStatus.SERVICE_UNAVAILABLE,
          f"E-BUSY: {self._clients} clients are connected, no more may\n")
    return None

  async def _client(self, connection):
    """One connection from metadata to its end."""
    self._clients += 1
    peer, reason = connection.remote_address, "closed"
    served = collections.Counter()  # outlives a connection that breaks
    logger.info("client %s connected, %d now", peer, self._clients)
    try:
      await connection.send(self._metadata)
      await self._converse(connection, served)
    except websockets.ConnectionClosed as closed:
      reason = str(closed)
    finally:
      self._clients -= 1
      logger.info("client %s left after %d plans (%s), %d now", peer,
                  served["plans"], reason, self._clients)

  async def _converse(self, connection, served):
    """Answers messages until the client leaves; counts "plans" in `served`."""
    faults, earliest = 0, 0.0
    async for message in connection:
      now = time.monotonic()
      if now < earliest:
        await asyncio.sleep(earliest - now)
      earliest = max(now, earliest) + 1 / self._limits.rate_hz
      try:
        answer = wire.pack(await self._answer(message))
        served["plans"], faults = served["plans"] + 1, 0
      except errors.UserError as error:
        answer, faults = str(error), faults + 1
      await connection.send(answer)
      if faults >= MAX_FAULTS:
        await connection.close(1008, f"{faults} bad messages in a row")

  async def _answer(self, message):
    """Message -> answer of the policy; UserError says what is wrong."""
    if isinstance(message, str):
      raise errors.DataError("a text message; send binary msgpack")
    observation = self._policy.check(wire.unpack(message))
    done = asyncio.get_running_loop().create_future()
    came = time.monotonic()
    await self._queue.put((observation, done))
    answer, started, ended, batch = await done
    return dict(answer, server_timing={
        "queue_ms": 1e3 * (started - came),
        "infer_ms": 1e3 * (ended - started), "batch": batch})

  async def _plan_batches(self):
    """Plans whatever is waiting, as long as the server runs."""
    while True:
      batch = [await self._queue.get()]
      while len(batch) < self._limits.batch and not self._queue.empty():
        batch.append(self._queue.get_nowait())
      batch = [(o, done) for o, done in batch if not done.cancelled()]
      if batch:
        await self._plan(batch)

  async def _plan(self, batch):
    """Plans [(observation, future)] together, or alone where that fails."""
    start = time.monotonic()
    try:
      answers = await asyncio.get_running_loop().run_in_executor(
          self._thread, self._policy.plan, [o for o, _ in batch])
    except Exception as error:
      if len(batch) > 1:  # one of them must not stop the others
        for pair in batch:
          await self._plan([pair])
        return
      if not isinstance(error, errors.UserError):
        logger.exception("a plan failed")
        error = errors.UserError(
            f"the policy failed ({type(error).__name__}); see the server's log")
      answers = [error]
    end = time.monotonic()
    for (_, done), answer in zip(batch, answers):
      if done.cancelled():
        continue
      if isinstance(answer, Exception):
        done.set_exception(answer)
      else:
        done.set_result((answer, start, end, len(batch)))


@contextlib.contextmanager
def in_background(server):
  """Runs a Server in a thread of this process; yields its port."""
  started, failed = threading.Event(), []
  port, loop, task = [], [], []

  async def main():
    loop.append(asyncio.get_running_loop())
    task.append(asyncio.current_task())
    await server.run(lambda found: (port.append(found), started.set()))

  def run():
    try:
      asyncio.run(main())
    except asyncio.CancelledError:
      pass
    except OSError as error:
      failed.append(error)
      started.set()

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  started.wait()
  if failed:
    raise failed[0]
  try:
    yield port[0]
  finally:
    loop[0].call_soon_threadsafe(task[0].cancel)
    thread.join()
