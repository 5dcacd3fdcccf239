"""Comfortness ("driving smoothness") from the agent's own log of its motion.

The share of 2 s segments in which six quantities stay within bounds, as the
official script counts them. Two of its six look accidental: the "yaw
acceleration" is the yaw rate again, and CARLA's deg/s are held against bounds
in rad/s after a phase unwrapping. `fixed=True` repairs both; its number stands
in no published table. Axes: T ticks of 0.1 s, W window.
"""

import math
import os

import numpy as np

from data_pipeline import errors, reading, schema

SEGMENT = 20  # ticks
WINDOW, ORDER = 7, 2  # of the Savitzky-Golay filter
DT = 0.1  # s
SHORTEST = ORDER + 1  # ticks that a quadratic takes
STRIDE = 2  # simulator ticks of 0.05 s between entries, for DT to hold
MOST = 1e30  # of any number in a log, so that its powers stay finite
BOUNDS = {  # strict
    "lon_accel": (-4.05, 2.40),  # m/s^2
    "lat_accel": (-4.89, 4.89),  # m/s^2
    "jerk": (-8.37, 8.37),  # m/s^3, of the acceleration's magnitude
    "lon_jerk": (-4.13, 4.13),  # m/s^3
    "yaw_accel": (-1.93, 1.93),  # rad/s^2
    "yaw_rate": (-0.95, 0.95),  # rad/s
}
VECTORS = ("acceleration", "angular_velocity", "forward_vector",
           "right_vector")


def smooth(values, derivative=False):
  """Savitzky-Golay: quadratics over 7 ticks, ends by the first and last fit.

  Args:
    values: [T], T >= 3; fewer than 7 get one quadratic for all.
    derivative: return the slope per second, not the value.
  """
  window = min(WINDOW, len(values))
  time = np.arange(window) - (window - 1) / 2
  powers = np.vander(time, ORDER + 1, increasing=True)   # [W,3]
  at = powers
  if derivative:
    at = np.stack([0 * time, 0 * time + 1, 2 * time], 1) / DT
  fit = at @ np.linalg.pinv(powers)                      # [W,W]
  half = window // 2
  middle = np.lib.stride_tricks.sliding_window_view(
      values, window) @ fit[half]                        # [T-W+1]
  return np.concatenate([
      fit[:half] @ values[:window], middle,
      fit[half + 1:] @ values[-window:]])                # [T]


def quantities(log, fixed=False):
  """{name of BOUNDS: [T]} of a segment {name of VECTORS: [T,>=2 or 3]}."""
  planar = log["acceleration"][:, :2]
  lon = smooth((planar * log["forward_vector"][:, :2]).sum(1))
  size = smooth(np.hypot(*planar.T))
  rate = log["angular_velocity"][:, 2]                   # [T] deg/s
  if fixed:
    rate = np.deg2rad(rate)
    yaw_rate, yaw_accel = smooth(rate), smooth(rate, derivative=True)
  else:
    turns = np.cumsum(np.round(np.diff(rate, prepend=rate[:1]) / (2 * np.pi)))
    yaw_rate = yaw_accel = smooth(rate - 2 * np.pi * turns)
  return {
      "lon_accel": lon,
      "lat_accel": smooth((planar * log["right_vector"][:, :2]).sum(1)),
      "jerk": smooth(size, derivative=True),
      "lon_jerk": smooth(lon, derivative=True),
      "yaw_accel": yaw_accel,
      "yaw_rate": yaw_rate,
  }


def comfortable(log, fixed=False):
  """Whether every quantity stays strictly within its bounds; NaN does not."""
  values = quantities(log, fixed)
  return all(((low < values[name]) & (values[name] < high)).all()
             for name, (low, high) in BOUNDS.items())


def route_share(log, fixed=False):
  """Share of comfortable segments of a route, 0-1.

  Up to 20 ticks are one segment; of more, a tail shorter than 20 is dropped.
  None for fewer than 3 ticks.
  """
  ticks = len(log["acceleration"])
  if ticks < SHORTEST:
    return None
  if ticks <= SEGMENT:
    return float(comfortable(log, fixed))
  starts = range(0, ticks - SEGMENT + 1, SEGMENT)
  return sum(comfortable({name: values[start:start + SEGMENT]
                          for name, values in log.items()}, fixed)
             for start in starts) / len(starts)


def read(path):
  """A metric_info.json as {name of VECTORS: [T,3]}, and the ticks' stride.

  Entries stay in the file's order, as the official script takes them. The
  stride is None where the keys are no evenly spaced numbers.

  Raises:
    DataError: no JSON object, or an entry without one of the vectors.
  """
  entries = reading.json_file(path, "run its route again",
                              is_no="is no whole JSON")
  if not isinstance(entries, dict):
    raise errors.DataError(f"{path} is no object of ticks; run its route again")
  for tick, entry in entries.items():
    for name in VECTORS:
      if not (isinstance(entry, dict) and _is_vector(entry.get(name))):
        raise errors.DataError(
            f"{path}: tick {tick} has no {name} of three numbers; run its "
            "route again")
  log = {name: np.array([entry[name][:3] for entry in entries.values()],
                        np.float64).reshape(-1, 3) for name in VECTORS}
  strides = set(np.diff([int(tick) for tick in entries])
                if all(tick.isdecimal() for tick in entries) else [])
  return log, int(strides.pop()) if len(strides) == 1 else None


def _is_vector(value):
  return (isinstance(value, list) and len(value) >= 3
          and all(type(part) in (int, float) and abs(part) < MOST
                  or part != part for part in value[:3]))


def score(records, folder):
  """Comfortness of a run.

  Args:
    records: Record of each route.
    folder: holds <save_name>/metric_info.json.

  Returns:
    {comfort, comfort_fixed: percent or None, routes{number: percent},
    unmeasured[]: routes without a log of 3 ticks, uneven[]: routes whose ticks
    are not 2 apart}.
  """
  shares, fixed, unmeasured, uneven = {}, [], [], []
  for record in records:
    path = os.path.join(folder, record.save_name, "metric_info.json")
    if not schema.inside(record.save_name) or not os.path.isfile(path):
      unmeasured.append(record.number)
      continue
    log, stride = read(path)
    share = route_share(log)
    if share is None:
      unmeasured.append(record.number)
      continue
    shares[record.number] = 100 * share
    fixed.append(100 * route_share(log, fixed=True))
    if stride != STRIDE:
      uneven.append(record.number)
  mean = lambda values: math.fsum(values) / len(values) if values else None
  return {"comfort": mean(list(shares.values())), "comfort_fixed": mean(fixed),
          "routes": shares, "unmeasured": unmeasured, "uneven": uneven}
