"""The host's memory against a budget: warn, shrink, save and leave.

A process that the system kills for its memory leaves no word. This one tells
in time, gives up what it can do without, and at last treats it like a machine
that goes away: the state is saved, the exit status is 75.
"""

import ctypes
import gc
import signal

import psutil

from data_pipeline import errors

WARN, SHRINK, LEAVE = 0.80, 0.92, 0.95  # shares of the budget
LIMITS = ("/sys/fs/cgroup/memory.max",
          "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Watch:
  """Looks at the resident memory of this process after each update."""

  def __init__(self, budget_gb, *, host, say, shrink, resident=None):
    """Args as follows.

    budget_gb: of this process; 0: what the machine or its container has.
    host: number of the host, for the messages. say: prints a line.
    shrink: () -> what was given up, in words; called once.
    resident: () -> bytes, by default those of this process.
    """
    if budget_gb < 0:
      raise errors.ConfigError(
          f"host_memory_gb {budget_gb:g}: state the memory of this process in "
          "GB, or 0 for all that the machine has")
    self._budget = budget_gb * 1e9 or total_bytes()
    self._host, self._say, self._shrink = host, say, shrink
    self._resident = resident or _resident
    self._reached = 0.0

  def __call__(self, step):
    """Acts on the first time that a share is reached, in order."""
    for share, act in ((WARN, self._warn), (SHRINK, self._give_up),
                       (LEAVE, self._leave)):
      used = self._resident()
      if self._reached < share <= used / self._budget:
        self._reached = share
        act(f"W-RAM: host {self._host} holds {used / 1e9:.2f} of "
            f"{self._budget / 1e9:.2f} GB ({100 * used / self._budget:.0f} %) "
            f"at step {step}")

  def _warn(self, told):
    self._say(f"{told}; lower data.ram_budget_gb or data.workers, or raise "
              "host_memory_gb if there is more")

  def _give_up(self, told):
    self._say(f"{told}; {self._shrink()}")
    gc.collect()
    trim()

  def _leave(self, told):
    self._say(f"{told}; saving, and leaving before the system kills it: start "
              "again with a lower data.ram_budget_gb")
    signal.raise_signal(signal.SIGTERM)  # so that all hosts leave together


def total_bytes():
  """Memory of the machine, or of the container if that has less."""
  found = [psutil.virtual_memory().total]
  for path in LIMITS:
    try:
      with open(path, encoding="utf-8") as file:
        found.append(int(file.read()))
    except (OSError, ValueError):  # no container, or "max"
      continue
  return min(found)


def trim():
  """Gives freed memory back to the system, where the C library can."""
  try:
    ctypes.CDLL(None).malloc_trim(0)
  except (OSError, AttributeError):
    pass


def _resident():
  return psutil.Process().memory_info().rss
