"""Compiled programs kept in a folder, so that a relaunch need not wait.

A folder that hangs or cannot be written must not stop a run: it is tried first,
under a timeout, and left out with a warning.
"""

import os
import socket
import threading
import time

import jax
from jax._src import path as jax_path  # opens what the cache itself can open
from jax.experimental.compilation_cache import compilation_cache

PROBE_S = 20.0
HIT = "/jax/compilation_cache/cache_hits"
MISS = "/jax/compilation_cache/cache_misses"


class Cache:
  """What became of the programs that were asked for since `use`.

  Attributes:
    folder: in use; "" for none. hits, misses: programs found, compiled.
  """

  def __init__(self, folder, say):
    self.folder, self.hits, self.misses = folder, 0, 0
    self._say = say
    if folder:
      jax.config.update("jax_compilation_cache_dir", folder)
      compilation_cache.reset_cache()  # an earlier program may have opened one
      jax.monitoring.register_event_listener(self._count)

  def _count(self, event, **_):
    self.hits += event == HIT
    self.misses += event == MISS

  def first_call(self, function):
    """The function, whose first call compiles; says once what that took."""
    called = False

    def call(*args):
      nonlocal called
      start = time.monotonic()
      result = function(*args)
      if not called and self.folder:
        self._say(f"compile cache: {self.hits} programs found, {self.misses} "
                  f"compiled, first call took {time.monotonic() - start:.1f} s "
                  f"({self.folder})")
      called = True
      return result

    return call


def use(folder, say, timeout_s=PROBE_S):
  """Makes jax keep compiled programs there from now on.

  Args:
    folder: path or gs:// address, made when absent; "" changes nothing.
    say: prints a line.
    timeout_s: after which a folder that does not answer is left out.

  Returns:
    Cache.
  """
  if not folder:
    return Cache("", say)
  problem = probe(folder, timeout_s)
  if problem:
    say(f"W-CACHE: compile_cache {folder} {problem}; this run goes on without "
        "it and compiles everything. Name another folder or mend this one")
    return Cache("", say)
  return Cache(folder, say)


def probe(folder, timeout_s):
  """Why a folder cannot be written and read back in time; "" if it can."""
  outcome = [f"did not answer within {timeout_s:g} s"]
  name = f".probe-{socket.gethostname()}-{os.getpid()}"

  def attempt():
    try:
      place = jax_path.Path(folder)
      place.mkdir(parents=True, exist_ok=True)
      file = place / name
      file.write_bytes(b"probe")
      same = file.read_bytes() == b"probe"
      file.unlink()
      outcome[0] = "" if same else "gives back other bytes than were written"
    except Exception as error:  # a cloud's client raises what it likes
      outcome[0] = f"cannot be used ({type(error).__name__}: {error})"

  thread = threading.Thread(target=attempt, daemon=True)
  thread.start()
  thread.join(timeout_s)
  return outcome[0]
