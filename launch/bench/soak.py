"""Does a loader's memory level off? Resident bytes over time, and their slope.

Caches and pools fill up first; the line is fitted to what comes after.
"""

import time

import numpy as np
import psutil

from launch.bench import sides

LIMIT_MB_PER_MINUTE = 5.0
WARMUP_SHARE = 0.25            # of the time, left out of the fit
LOOK_EVERY_S = 2.0


def run(work, seconds):
  """Loads batches for so long.

  Returns:
    {"times_ms": of each batch, "seconds": [n], "bytes": [n] resident}.
  """
  process, batches = psutil.Process(), sides.batches(work, work.prepared)
  found = {"times_ms": [], "seconds": [], "bytes": []}
  start = last = time.monotonic()
  while last - start < seconds:
    next(batches)
    now = time.monotonic()
    found["times_ms"].append(1e3 * (now - last))
    last = now
    looks = len(found["seconds"])
    if now - start >= looks * LOOK_EVERY_S:
      found["seconds"].append(now - start)
      found["bytes"].append(process.memory_info().rss)
  return found


def slope_mb_per_minute(seconds, resident):
  """Least-squares slope after warm-up; 0 where a line has no two points."""
  seconds, resident = np.asarray(seconds), np.asarray(resident, np.float64)
  after = seconds >= WARMUP_SHARE * seconds[-1] if len(seconds) else seconds
  if np.count_nonzero(after) < 2:
    return 0.0
  slope, _ = np.polyfit(seconds[after], resident[after], 1)
  return float(slope * 60 / 1e6)
