"""Programs that take turns: each in its process, one call at a time.

So no one has the quiet minute, no library's threads stand in another's way,
and memory is told apart. A side is an object with `names`, the programs it
offers, and call(name, seed) -> (ms, {name: array}): fresh inputs made from the
seed before the clock starts, results on the host before it stops.
"""

import contextlib
import multiprocessing
import os
import threading
import traceback

import numpy as np
import psutil

from data_pipeline import errors

LOOK_EVERY_S = 0.02
WARMUP = 2


def run(makers, runs, threads, say):
  """Races all programs of all sides.

  Args:
    makers: {side: (function, *arguments)} that make the sides, picklable.
    runs: timed calls of each program. threads: processors for each.
    say: called with a line of progress.

  Returns:
    {(side, name): {"ms": [...], "peak_bytes", "first": outputs of seed 0,
    "compile_s"}}; of a program that could not be made, {"failed": why}.
  """
  with contextlib.ExitStack() as stack:
    sides = {}
    for side, maker in makers.items():
      say(f"bench: preparing {side}")
      sides[side] = stack.enter_context(_Worker(maker, threads))
    found = {}
    for side, worker in sides.items():
      for name in worker.ask("names"):
        answer = worker.ask("first", name)
        found[side, name] = answer | {"ms": []}
        if "failed" in answer:
          say(f"bench: {side}, {name} left out: {answer['failed']}")
        else:
          say(f"bench: {side}, {name}: compiled and warm in "
              f"{answer['compile_s']:.1f} s")
    racing = [key for key, value in found.items() if "failed" not in value]
    for turn in range(runs):
      for side, name in racing:
        found[side, name]["ms"].append(
            sides[side].ask("call", name, WARMUP + turn))
    for side, name in racing:
      found[side, name]["peak_bytes"] = sides[side].ask("peak", name)
  return found


class _Worker:
  """A process that holds one side."""

  def __init__(self, maker, threads):
    context = multiprocessing.get_context("spawn")
    self._ours, theirs = context.Pipe()
    self._process = context.Process(target=_serve, daemon=True,
                                    args=(theirs, maker, threads))
    self._process.start()
    theirs.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._ours.close()
    self._process.join(20)

  def ask(self, *question):
    try:
      self._ours.send(question)
      ok, answer = self._ours.recv()
    except (EOFError, OSError):
      raise errors.ConfigError(
          "a benchmarked process ended; see above, or ask for less") from None
    if not ok:
      raise errors.ConfigError(f"a benchmarked program failed: {answer}")
    return answer


def _serve(pipe, maker, threads):
  """Runs in the new process, until the pipe closes."""
  if hasattr(os, "sched_setaffinity"):  # XLA counts these, torch is told
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
  side, peaks = None, {}
  with contextlib.suppress(EOFError, OSError):
    while True:
      question, *args = pipe.recv()
      try:
        side = side or maker[0](*maker[1:])
        pipe.send((True, _answer(side, peaks, question, *args)))
      except Exception as error:  # told on the other end
        traceback.print_exc()
        pipe.send((False, f"{type(error).__name__}: {error}"))


def _answer(side, peaks, question, name=None, seed=0):
  if question == "names":
    return list(side.names)
  if question == "peak":
    return peaks[name]
  if question == "first":
    return _first(side, name)
  with _watch(peaks, name):
    ms, _ = side.call(name, seed)
  return ms


def _first(side, name):
  """Compiles and warms up; what comes out of seed 0."""
  import time
  start = time.monotonic()
  try:
    _, outputs = side.call(name, 0)
    for seed in range(1, WARMUP):
      side.call(name, seed)
  except side.may_fail as error:
    line = (str(error).strip().splitlines() or [""])[0]
    return {"failed": f"{type(error).__name__}: {line[:200]}"}
  return {"first": {k: np.asarray(v) for k, v in outputs.items()},
          "compile_s": time.monotonic() - start}


@contextlib.contextmanager
def _watch(peaks, name):
  """Notes the most memory that this process holds meanwhile."""
  this, done = psutil.Process(), threading.Event()

  def look():
    while not done.wait(LOOK_EVERY_S):
      peaks[name] = max(peaks.get(name, 0), this.memory_info().rss)

  peaks[name] = max(peaks.get(name, 0), this.memory_info().rss)
  watcher = threading.Thread(target=look, daemon=True)
  watcher.start()
  try:
    yield
  finally:
    done.set()
    watcher.join()
