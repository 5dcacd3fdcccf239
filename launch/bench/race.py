"""Programs that take turns: each in its process, one call at a time.

So no one has the quiet minute, no library's threads stand in another's way,
and memory is told apart. A side is an object with `names`, the programs it
offers, and call(name, seed) -> (ms, {name: array}): fresh inputs made from the
seed before the clock starts, results on the host before it stops. One that
knows better than the operating system how much memory it takes has peak().
"""

import concurrent.futures
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
CALLS = 2  # of a turn, of which the last counts


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
      found |= _compile(side, worker, say)
    _take_turns(sides, found, runs)
  return found


def run_in_groups(groups, runs, threads, say):
  """Like `run`, for a device whose programs take longer to compile than to run.

  Args:
    groups: makers as for `run`. The sides of all groups are made and those of
      a group compiled at the same time; one group after another then takes its
      turns and frees its memory.

  Yields:
    Of each group what `run` returns. A side that breaks is left out.
  """
  with contextlib.ExitStack() as stack:
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(64))
    stacks = [stack.enter_context(contextlib.ExitStack()) for _ in groups]
    sides = [{side: own.enter_context(_Worker(maker, threads))
              for side, maker in makers.items()}
             for own, makers in zip(stacks, groups)]
    made = {worker: pool.submit(worker.ask, "names")
            for group in sides for worker in group.values()}
    for own, group in zip(stacks, sides):
      def prepared(side, worker):
        made[worker].exception()  # told below
        return _compile(side, worker, say)

      waiting = {side: pool.submit(prepared, side, worker)
                 for side, worker in group.items()}
      found = {}
      for side, future in waiting.items():
        try:
          found |= future.result()
        except errors.ConfigError as error:
          say(f"bench: {side} left out: {error}")
          found[side, ""] = {"failed": str(error)}
      _take_turns(group, found, runs)
      yield found
      own.close()


def _compile(side, worker, say):
  """{(side, name): what is known of each of its programs before it races}."""
  found = {}
  for name in worker.ask("names"):
    found[side, name] = answer = worker.ask("first", name) | {"ms": []}
    say(f"bench: {side}, {name} " + (
        f"left out: {answer['failed']}" if "failed" in answer else
        f"compiled and warm in {answer['compile_s']:.1f} s"))
  return found


def _take_turns(sides, found, runs):
  """Adds times and peaks to `found`.

  Who trains or drives calls again at once. After the others' turns the caches
  are theirs, and a virtual machine has given away what memory was free, which
  may nearly double a large step's time: so a first call is not counted.
  """
  racing = [key for key, value in found.items() if "failed" not in value]
  for turn in range(runs):
    for side, name in racing:
      first = WARMUP + CALLS * turn
      ms = [sides[side].ask("call", name, first + call)
            for call in range(CALLS)]
      found[side, name]["ms"].append(ms[-1])
  for side, name in racing:
    found[side, name]["peak_bytes"] = sides[side].ask("peak", name)


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
  # Several sides share a GPU, of which one would take three quarters at once.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
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
    return (side.peak() if hasattr(side, "peak") else None) or peaks[name]
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
