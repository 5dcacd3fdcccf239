"""Scales numbers to about [-1, 1] by percentiles of the training windows.

n(v) = 2 (v - p01) / (p99 - p01) - 1, not clipped. The future's percentiles
depend on the horizon, so statistics carry theirs and refuse another. Axes: M
samples, P history, H horizon, R rows of future with now (see windows.py), D
numbers of one kind.
"""

import dataclasses
import json
import os

import numpy as np

from data_pipeline import errors, reading, schema, writing

# Kind of array -> the statistics key of each of its columns. The axes of one
# sensor share a pair.
COLUMNS = {
    "proprio": ("speed", *["acceleration"] * 3, *["angular_velocity"] * 3,
                "theta", "command_far_x", "command_far_y"),
    "goal": ("command_far_x", "command_far_y"),
    "action": ("fur_x", "fur_y"),
}
KEYS = tuple(dict.fromkeys(key for keys in COLUMNS.values() for key in keys))
FORMAT = 1  # of the file; the first files do not tell theirs
SCHEMA = {
    "horizon": schema.count, "widened": [str],
    "p01": dict.fromkeys(KEYS, schema.number),
    "p99": dict.fromkeys(KEYS, schema.number),
    # Files from before this was an option lack it.
    "drop_current_point": schema.Maybe(bool)}
# Below this spread (m, rad or their rates) a number is a constant with noise.
MIN_RANGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Statistics:
  """p01 and p99 of every key, for plans of `horizon` rows."""

  horizon: int
  p01: dict
  p99: dict
  widened: tuple = ()          # keys whose range was too small to divide by
  drop_current_point: bool = False  # plans leave out row 0, the present

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

  def check(self, windows, source="statistics"):
    """Raises DataError unless these fit the plans of Windows, or of a Pool."""
    self.check_horizon(windows.horizon, source)
    if self.drop_current_point != windows.drop_current_point:
      raise errors.DataError(
          f"{source}: computed with drop_current_point "
          f"{self.drop_current_point}, these samples have "
          f"{windows.drop_current_point}; compute them again")

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
    writing.put(path, json.dumps(
        {"format": FORMAT, "horizon": self.horizon, "p01": self.p01,
         "p99": self.p99, "widened": list(self.widened),
         "drop_current_point": self.drop_current_point}, indent=1) + "\n")


# Base-1000 training split of the release, horizon 10; `load` knows its name.
OFFICIAL = "official"
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


@dataclasses.dataclass(frozen=True)
class Pool:
  """All elements that percentiles are taken of; parts of a data set merge.

  Percentiles themselves cannot be merged, but their elements are few: 9 MB
  for a number of Bench2Drive's 225,348 training windows.
  """

  horizon: int
  drop_current_point: bool
  values: dict                 # key -> [n] float32, in any order

  @classmethod
  def of(cls, windows):
    """The elements of windows.Windows: overlaps and repeated frames count."""
    arrays = {
        "proprio": windows.proprio,
        "action": windows.action[:, int(windows.drop_current_point):]}
    values = {}
    for key in KEYS:
      kind = "action" if key in COLUMNS["action"] else "proprio"
      columns = [i for i, name in enumerate(COLUMNS[kind]) if name == key]
      values[key] = arrays[kind][..., columns].ravel()
    return cls(windows.horizon, windows.drop_current_point, values)

  @classmethod
  def merge(cls, pools):
    """One pool of several; the result is the same in any order.

    Raises:
      DataError: pools of other plans, or none.
    """
    pools = list(pools)
    kinds = sorted({(p.horizon, p.drop_current_point) for p in pools})
    if len(kinds) != 1:
      raise errors.DataError(
          f"statistics of {len(kinds)} kinds of plans (horizon, "
          f"drop_current_point) cannot be merged: {kinds}; compute them anew")
    return cls(*kinds[0], {
        key: np.concatenate([p.values[key] for p in pools]) for key in KEYS})

  def statistics(self):
    """Percentiles 1 and 99, linear between ranks -> Statistics.

    A range under MIN_RANGE becomes one unit wide around its middle, so that
    a constant number maps to 0 instead of to noise or infinity.

    Raises:
      DataError: there is nothing, or something that is not finite.
    """
    p01, p99, widened = {}, {}, []
    for key in KEYS:
      values = self.values[key].astype(np.float64)
      bad = np.count_nonzero(~np.isfinite(values))
      if bad or not len(values):
        raise errors.DataError(
            f"{key}: {bad} of {len(values)} values are not finite; repair or "
            "leave out their routes")
      low, high = np.percentile(values, [1, 99])
      if high - low < MIN_RANGE:
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
        widened.append(key)
      p01[key], p99[key] = float(low), float(high)
    return Statistics(self.horizon, p01, p99, tuple(widened),
                      self.drop_current_point)


def compute(windows):
  """Statistics of training windows.Windows: pooled as in the release."""
  return Pool.of(windows).statistics()


def load(path, horizon, *, any_horizon=False):
  """Reads what Statistics.save wrote.

  Args:
    path: file, or "official" for the release's numbers (OFFICIAL_H10).
    any_horizon: take statistics of another horizon for this one's, as the
      release does.

  Raises:
    DataError: no file, a broken one, or statistics of another horizon.
  """
  statistics = OFFICIAL_H10 if path == OFFICIAL else _read(path)
  if any_horizon:
    return dataclasses.replace(statistics, horizon=horizon)
  statistics.check_horizon(horizon, path)
  return statistics


def _read(path):
  content = reading.json_file(
      path, "compute the statistics first", is_no="does not hold statistics",
      mend="remove it and compute them again")
  newer = isinstance(content, dict) and content.get("format", FORMAT)
  if type(newer) is int and newer > FORMAT:
    raise errors.DataError(
        f"{path} is of format {newer}, this program reads format {FORMAT}; "
        "use the version that wrote it, or compute them again")
  why = schema.fault(content, SCHEMA, "the file")
  why = why or next((
      f"{key} reaches from {content['p01'][key]} to {content['p99'][key]}"
      for key in KEYS if not content["p01"][key] < content["p99"][key]), None)
  if why:
    raise errors.DataError(
        f"{path} does not hold statistics ({why}); remove it and compute them "
        "again")
  pair = lambda name: {key: float(content[name][key]) for key in KEYS}
  return Statistics(content["horizon"], pair("p01"), pair("p99"),
                    tuple(content["widened"]),
                    bool(content.get("drop_current_point")))


def apply(kind, values, statistics):
  """Raw -> normalised float32.

  Args:
    kind: see COLUMNS. values: [...,D]; for "action" [...,R,2], row 0 now.

  Returns:
    [...,D]; for "action" the plan's H rows.
  """
  low, high = statistics.bounds(kind)
  if kind == "action" and statistics.drop_current_point:
    values = values[..., 1:, :]
  return (2 * (values - low) / (high - low) - 1).astype(np.float32)


def invert(kind, values, statistics):
  """Normalised -> raw units, float32: the inverse of apply, now included."""
  low, high = statistics.bounds(kind)
  values = np.asarray(values, np.float64)
  values = ((values + 1) * (high - low) / 2 + low).astype(np.float32)
  if kind == "action" and statistics.drop_current_point:
    now = np.zeros_like(values[..., :1, :])
    values = np.concatenate([now, values], -2)
  return values
