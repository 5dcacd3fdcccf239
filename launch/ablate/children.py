"""The programs that a row is made of, each in a process of its own.

A fresh process compiles and remembers nothing of the row before; its memory is
watched from here. What it prints goes to a log, its last error line to us.
"""

import contextlib
import signal
import subprocess
import sys
import time

import psutil

from data_pipeline import errors
from drivemoe_jax import preemption

SAMPLE_S = 1.0  # between looks at the memory


class Ended(Exception):
  """A program ended with an error that it has told: its exit status."""

  def __init__(self, status, line):
    super().__init__(line)
    self.status, self.line = status, line


@contextlib.contextmanager
def leaving():
  """SIGTERM ends this process with 75, and the program that runs with it."""
  old = signal.signal(signal.SIGTERM,
                      lambda *_: sys.exit(preemption.PREEMPTED))
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, old)


def run(module, *args, log):
  """Runs `python -m module args`, appending what it says to a log.

  Returns:
    most bytes that it and its children used at a time.

  Raises:
    Ended: it failed. PeerError: a signal ended it.
  """
  with open(log, "ab") as file:
    begin = file.tell()
    child = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)], stdout=file,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
      peak = _watch(child)
    finally:
      if child.poll() is None:  # this process is to end: so shall that one
        child.terminate()
        child.wait()
  if child.returncode < 0:
    raise errors.PeerError(
        f"{module} was ended by signal {-child.returncode}, see {log}; start "
        "again: what is finished is kept")
  if child.returncode:
    raise Ended(child.returncode, _error(log, begin)
                or f"{module} ended with {child.returncode}, see {log}")
  return peak


def _watch(child):
  peak = 0
  while child.poll() is None:
    peak = max(peak, _memory(child.pid))
    try:
      child.wait(SAMPLE_S)
    except subprocess.TimeoutExpired:
      pass
  return peak


def _memory(pid):
  """Bytes of a process and its children, shared pages once."""
  total = 0
  try:
    this = psutil.Process(pid)
    for process in [this, *this.children(recursive=True)]:
      total += process.memory_full_info().pss
  except psutil.Error:  # one of them ended meanwhile
    pass
  return total


def _error(log, begin):
  """The last line of the form E-...: that was written since."""
  with open(log, encoding="utf-8", errors="replace") as file:
    file.seek(begin)
    lines = [line.strip() for line in file if line.startswith("E-")]
  return lines[-1] if lines else None


def stamp():
  """Hours, minutes and seconds, for a line of progress."""
  return time.strftime("%H:%M:%S")
