"""Do these statistics fit these recordings? Numbers, and what is wrong.

Statistics of another data set, sensor or unit train without any error and
drive badly, so they are worth a look before a long run.
"""

import numpy as np

from data_pipeline import normalize

# Percentiles 1 and 99 leave 2 % outside; statistics whose own data leave more
# than this outside were made of something else.
MOST_OUTSIDE = 0.05


def check(pool, statistics):
  """Compares normalize.Pool elements with normalize.Statistics.

  Returns:
    {"keys": {key: {...}}, "faults": [line, ...], "notes": [line, ...]}. Of a
    key: `count`; `nan_share`, also of infinities; of the finite elements
    `below` and `above`, the shares outside p01 to p99, with `min`, `max`,
    `mean` and `std` (None where there are none); `constant`, whether they
    spread less than normalize.MIN_RANGE; and `p01`, `p99`.

  Raises:
    DataError: statistics of another horizon.
  """
  statistics.check(pool)
  keys, faults, notes = {}, [], []
  for key in normalize.KEYS:
    found = keys[key] = _describe(
        pool.values[key].astype(np.float64), statistics.p01[key],
        statistics.p99[key])
    if found["nan_share"] or not found["count"]:
      faults.append(f"{key}: {found['nan_share']:.3%} of {found['count']} "
                    "values are not finite")
    if found["below"] + found["above"] > MOST_OUTSIDE:
      faults.append(
          f"{key}: {found['below'] + found['above']:.1%} lie outside "
          f"{statistics.p01[key]:.4g} to {statistics.p99[key]:.4g}, about 2 % "
          "should; the statistics are of other data")
    if found["constant"]:
      notes.append(f"{key}: constant at {found['mean']:.4g}, it teaches "
                   "nothing")
    elif key in statistics.widened:
      notes.append(f"{key}: was constant where the statistics come from")
  return {"keys": keys, "faults": faults, "notes": notes}


def _describe(values, p01, p99):
  good = values[np.isfinite(values)]
  share = lambda part, whole: float(part / whole) if whole else 0.0
  number = lambda function: float(function(good)) if len(good) else None
  return {
      "count": len(values),
      "nan_share": share(len(values) - len(good), len(values)),
      "below": share(np.count_nonzero(good < p01), len(good)),
      "above": share(np.count_nonzero(good > p99), len(good)),
      "min": number(np.min), "max": number(np.max), "mean": number(np.mean),
      "std": number(np.std),
      "constant": bool(len(good) and np.ptp(good) < normalize.MIN_RANGE),
      "p01": p01, "p99": p99}


def text(report):
  """The report of check() as a table."""
  head = (f"{'number':18}{'p01':>10}{'p99':>10}{'min':>10}{'max':>10}"
          f"{'NaN':>8}{'below':>8}{'above':>8}")
  lines = [head]
  for key, found in report["keys"].items():
    limits = "".join(f"{'-':>10}" if found[x] is None else f"{found[x]:10.3f}"
                     for x in ("p01", "p99", "min", "max"))
    shares = "".join(f"{found[x]:8.2%}"
                     for x in ("nan_share", "below", "above"))
    lines.append(f"{key:18}{limits}{shares}")
  lines += [f"note: {line}" for line in report["notes"]]
  lines += [f"FAULT: {line}" for line in report["faults"]]
  return "\n".join(lines)
