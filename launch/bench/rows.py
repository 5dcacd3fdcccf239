"""The row of a benchmark, and how the times in it are taken.

A row is {name, median_ms, p5_ms, p95_ms, peak_bytes, floor_ms,
ratio_to_floor, against}. Times are of one batch. The floor is the part of the
work that nothing can spare, timed alone in the same run (None: unknown);
`against` is {name, median_ms, ratio} of another program that does the same,
its ratio above 1 where we are faster (None: not asked for).
"""

import concurrent.futures
import itertools
import multiprocessing
import os
import platform
import threading
import time

import numpy as np
import psutil

SAMPLE_S = 0.5  # between looks at the memory


def make(name, times_ms, *, peak_bytes=None, floor_ms=None, against=None):
  """Returns a row.

  Args:
    times_ms: measured times [ms]. peak_bytes: most memory in use meanwhile.
    floor_ms: see above. against: (name, times [ms]) of the other program.
  """
  median = float(np.median(times_ms))
  row = {"name": name, "median_ms": median,
         "p5_ms": float(np.percentile(times_ms, 5)),
         "p95_ms": float(np.percentile(times_ms, 95)),
         "peak_bytes": peak_bytes, "floor_ms": floor_ms,
         "ratio_to_floor": floor_ms and median / floor_ms, "against": None}
  if against:
    other = float(np.median(against[1]))
    row["against"] = {"name": against[0], "median_ms": other,
                      "ratio": other / median}
  return row


def table(result):
  """{"rows": [...], ...} as text; `batch_size` adds samples per second."""
  batch = result.get("batch_size")
  lines = [f"{'':34}{'median':>9}{'p5':>9}{'p95':>9}{'peak':>8}{'x floor':>9}"
           + (f"{'samples/s':>11}" if batch else "")]
  for row in result["rows"]:
    peak = row["peak_bytes"]
    floor = row["ratio_to_floor"]
    lines.append(
        f"{row['name']:34}{row['median_ms']:6.1f} ms{row['p5_ms']:6.1f} ms"
        f"{row['p95_ms']:6.1f} ms"
        + (f"{peak / 1e9:5.2f} GB" if peak else f"{'':8}")
        + (f"{floor:9.2f}" if floor else f"{'':9}")
        + (f"{1e3 * batch / row['median_ms']:11.1f}" if batch else ""))
    if row["against"]:
      other = row["against"]
      lines.append(f"  against {other['name']}: {other['median_ms']:.1f} ms, "
                   f"{other['ratio']:.2f} x as long")
  return "\n".join(lines + result.get("remarks", []))


def machine():
  """What the numbers depend on: {"cores", "processor", "python", ...}."""
  return {"cores": os.cpu_count(), "processor": _processor(),
          "memory_bytes": psutil.virtual_memory().total,
          "python": platform.python_version(),
          "load_before": os.getloadavg()[0]}


def _processor():
  try:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
      names = [line for line in file if line.startswith("model name")]
    return names[0].partition(":")[2].strip()
  except (OSError, IndexError):  # no Linux, or a processor without a name
    return platform.machine()


def time_blocks(batches, *, warmup, blocks, per_block):
  """Times an iterator of batches [ms per batch].

  A loader works ahead, so that single batches come in bursts; what is timed
  is a block of `per_block`, `blocks` times, after `warmup` batches.
  """
  _take(batches, warmup)
  times = []
  for _ in range(blocks):
    start = time.perf_counter()
    _take(batches, per_block)
    times.append(1e3 * (time.perf_counter() - start) / per_block)
  return times


def _take(batches, count):
  for _ in itertools.islice(batches, count):
    pass


def in_fresh_process(function, *args):
  """(function(*args), peak bytes) of a new process and its children."""
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    return pool.submit(_watched, function, args).result()


def _watched(function, args):
  """Runs in the new process: the result, and the most memory seen."""
  done, peak = threading.Event(), [0]

  def watch():
    while True:
      peak[0] = max(peak[0], memory())
      if done.wait(SAMPLE_S):
        return

  watcher = threading.Thread(target=watch, daemon=True)
  watcher.start()
  result = function(*args)
  done.set()
  watcher.join()
  return result, max(peak[0], memory())


def memory():
  """Bytes in use by this process and its children, shared pages once."""
  this = psutil.Process()
  total = 0
  for process in [this, *this.children(recursive=True)]:
    try:
      total += process.memory_full_info().pss
    except psutil.Error:  # it ended meanwhile
      pass
  return total
