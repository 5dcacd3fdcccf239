"""Scales numbers to about [-1, 1] by percentiles of the training windows.

n(v) = 2 (v - p01) / (p99 - p01) - 1, not clipped. The future's percentiles
depend on the horizon, so statistics carry theirs and refuse another. Axes: M
samples, P history, H horizon, D numbers of one kind.
"""

import dataclasses
import json
import os

import numpy as np

from data_pipeline import errors

# Kind of array -> the statistics key of each of its columns. The axes of one
# sensor share a pair.
COLUMNS = {
    "proprio": ("speed", *["acceleration"] * 3, *["angular_velocity"] * 3,
                "theta", "command_far_x", "command_far_y"),
    "goal": ("command_far_x", "command_far_y"),
    "action": ("fur_x", "fur_y"),
}
KEYS = tuple(dict.fromkeys(key for keys in COLUMNS.values() for key in keys))
# Below this spread (m, rad or their rates) a number is a constant with noise.
MIN_RANGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Statistics:
  """p01 and p99 of every key, for futures of `horizon` rows."""

  horizon: int
  p01: dict
  p99: dict
  widened: tuple = ()          # keys whose range was too small to divide by

  def bounds(self, kind):
    """Returns (low, high), each [D] float64, of "proprio", "goal", "action"."""
    keys = COLUMNS[kind]
    return (np.array([self.p01[key] for key in keys]),
            np.array([self.p99[key] for key in keys]))

  def check_horizon(self, horizon, source="statistics"):
    """Raises DataError unless these are of that horizon."""
    if self.horizon != horizon:
      raise errors.DataError(
          f"{source}: computed for horizon {self.horizon}, this run has "
          f"horizon {horizon}; compute them again for {horizon}")

  def save(self, path, *, overwrite=False):
    """Writes JSON atomically; a file of equal content is left as it is.

    Raises:
      DataError: `path` holds other statistics and `overwrite` is False, or
        statistics of another horizon.
    """
    if os.path.exists(path):
      old = load(path, self.horizon)
      if old == self:
        return
      if not overwrite:
        raise errors.DataError(
            f"{path} holds other statistics; remove it or choose another name")
    draft = f"{path}.partial"
    with open(draft, "w", encoding="utf-8") as file:
      json.dump({"horizon": self.horizon, "p01": self.p01, "p99": self.p99,
                 "widened": list(self.widened)}, file, indent=1)
      file.write("\n")
    os.replace(draft, path)


# Base-1000 training split of the release, horizon 10.
OFFICIAL_H10 = Statistics(
    horizon=10,
    p01={"speed": -0.021534712985157967,
         "acceleration": -7.852330207824707,
         "angular_velocity": -0.5025739073753357,
         "theta": -0.18638665676116944,
         "command_far_x": 3.677370071411133,
         "command_far_y": -16.13709259033203,
         "fur_x": -0.009059280324727297,
         "fur_y": -1.1331352233886718},
    p99={"speed": 11.078810691833496,
         "acceleration": 10.291455268859863,
         "angular_velocity": 0.4207775592803955,
         "theta": 0.22671463966369854,
         "command_far_x": 57.07126235961914,
         "command_far_y": 22.37385368347168,
         "fur_x": 8.094476861953734,
         "fur_y": 0.9688886409997939})


def file_name(horizon):
  """The name to store statistics under beside a data set."""
  return f"statistics_h{horizon}.json"


def compute(windows):
  """Percentiles 1 and 99 of training windows.Windows -> Statistics.

  All elements are pooled, overlaps and repeated first frames included, as in
  the release. A range under MIN_RANGE becomes one unit wide around its middle,
  so that a constant number maps to 0 instead of to noise or infinity.
  """
  arrays = {"proprio": windows.proprio, "action": windows.action}
  p01, p99, widened = {}, {}, []
  for key in KEYS:
    kind = "action" if key in COLUMNS["action"] else "proprio"
    columns = [i for i, name in enumerate(COLUMNS[kind]) if name == key]
    low, high = np.percentile(
        arrays[kind][..., columns].astype(np.float64), [1, 99])
    if high - low < MIN_RANGE:
      low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
      widened.append(key)
    p01[key], p99[key] = float(low), float(high)
  return Statistics(windows.horizon, p01, p99, tuple(widened))


def load(path, horizon):
  """Reads what Statistics.save wrote.

  Raises:
    DataError: no file, a broken one, or statistics of another horizon.
  """
  try:
    with open(path, encoding="utf-8") as file:
      content = json.load(file)
    statistics = Statistics(
        content["horizon"],
        {key: float(content["p01"][key]) for key in KEYS},
        {key: float(content["p99"][key]) for key in KEYS},
        tuple(content["widened"]))
  except OSError as error:
    raise errors.DataError(
        f"{path}: {error.strerror}; compute the statistics first") from None
  except (KeyError, TypeError, ValueError) as error:
    raise errors.DataError(
        f"{path} does not hold statistics ({type(error).__name__}: {error}); "
        "remove it and compute them again") from None
  statistics.check_horizon(horizon, path)
  return statistics


def apply(kind, values, statistics):
  """Raw -> normalised float32; `values` is [...,D] of `kind` (see COLUMNS)."""
  low, high = statistics.bounds(kind)
  return (2 * (values - low) / (high - low) - 1).astype(np.float32)


def invert(kind, values, statistics):
  """Normalised -> raw units, float32: the inverse of apply."""
  low, high = statistics.bounds(kind)
  values = np.asarray(values, np.float64)
  return ((values + 1) * (high - low) / 2 + low).astype(np.float32)
