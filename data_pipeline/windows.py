"""Cuts routes into samples: a short past, a short future, in the ego frame.

The future starts at the present frame, as in the release: row j is 0.1 j s
ahead and row 0 is always (0, 0). A plan has the first H rows, or with
`drop_current_point` the H rows after row 0. Axes: M samples, P history, H
horizon, R rows of future (H, or H + 1 with drop_current_point).
"""

import dataclasses
import functools
import logging
import math
import os

import numpy as np

from data_pipeline import bench2drive, errors, navigation

logger = logging.getLogger(__name__)

PARALLEL_FROM = 100  # routes; below, starting processes costs more


@dataclasses.dataclass(frozen=True)
class Windows:
  """All samples of a split; ego frame is x forward, y right, metres."""

  root: str
  routes: tuple                # names
  route_index: np.ndarray      # [M] int32 into `routes`
  frame: np.ndarray            # [M] int32, the present frame of its route
  proprio: np.ndarray          # [M,P,10] speed, acceleration, angular
  #                              velocity, heading, far node; raw units
  goal: np.ndarray             # [M,2] far node now
  action: np.ndarray           # [M,R,2] future positions of the ego origin
  future_heading: np.ndarray   # [M,R] rad, relative to now
  future_speed: np.ndarray     # [M,R] m/s
  camera: np.ndarray | None    # [M] int32, None without labels
  skill: np.ndarray | None     # [M] int32, None without labels
  skipped: tuple = ()          # ((name, why), ...) of routes left out
  drop_current_point: bool = False  # plans start after row 0

  def __len__(self):
    return len(self.frame)

  @property
  def history(self):
    return self.proprio.shape[1]

  @property
  def horizon(self):
    """Rows of a plan."""
    return self.action.shape[1] - self.drop_current_point


SAMPLE_ARRAYS = ("frame", "proprio", "goal", "action", "future_heading",
                 "future_speed", "camera", "skill")


def make_windows(route, *, history=5, horizon=10, wrap_theta=True,
                 drop_current_point=False, root=""):
  """Cuts one bench2drive.Route of N frames into N - R samples.

  The route's last frame is dropped and no future is padded, as in the
  release; the past is padded with the first frame.

  Args:
    route: bench2drive.Route.
    history, horizon: frames of past (the present included) and of a plan.
    wrap_theta: keep relative headings in (-pi, pi]. The release does not, so
      that crossing north makes a jump of 2 pi; False repeats that.
    drop_current_point: plans start after row 0, which is kept beside them.
    root: folder the route is in.

  Raises:
    DataError: the route has no more than R frames.
  """
  rows = horizon + drop_current_point
  count = len(route) - rows
  if count < 1:
    raise errors.DataError(
        f"{os.path.join(root, route.name)} has {len(route)} frames, a horizon "
        f"of {horizon} needs at least {rows + 1}; lower the horizon, leave "
        "the route out, or set on_bad_record=skip")
  now = np.arange(count)
  past = np.maximum(now[:, None] + np.arange(1 - history, 1), 0)  # [M,P]
  future = now[:, None] + np.arange(rows)                         # [M,R]
  position = route.position[now][:, None]                         # [M,1,2]
  heading = route.heading[now][:, None]                           # [M,1]
  turn = navigation.wrap if wrap_theta else (lambda angle: angle)
  proprio = np.concatenate([
      route.speed[past][..., None],
      route.acceleration[past],
      route.angular_velocity[past],
      turn(route.heading[past] - heading)[..., None],
      navigation.to_ego(route.far_node[past], position, heading),
  ], -1).astype(np.float32)                                       # [M,P,10]
  label = lambda ids: None if ids is None else ids[now]
  return Windows(
      root=root,
      routes=(route.name,),
      route_index=np.zeros(count, np.int32),
      frame=now.astype(np.int32),
      proprio=proprio,
      goal=proprio[:, -1, 8:10].copy(),
      action=navigation.to_ego(
          route.position[future], position, heading).astype(np.float32),
      future_heading=navigation.wrap(
          route.heading[future] - heading).astype(np.float32),
      future_speed=route.speed[future].astype(np.float32),
      camera=label(route.camera),
      skill=label(route.skill),
      drop_current_point=drop_current_point)


def with_whole_past(windows):
  """Those whose past was recorded, none of it padded with the first frame.

  Raises:
    DataError: there is none.
  """
  keep = np.flatnonzero(windows.frame >= windows.history - 1)
  if not len(keep):
    raise errors.DataError(
        f"no route is long enough for a past of {windows.history} frames and "
        f"a plan of {windows.horizon}; record longer ones or set "
        "whole_past=False")
  arrays = {key: getattr(windows, key)
            for key in (*SAMPLE_ARRAYS, "route_index")}
  return dataclasses.replace(windows, **{
      key: None if array is None else array[keep]
      for key, array in arrays.items()})


def collect(root, labels_root, routes, history=5, horizon=10, *,
            on_bad_record="fail", skip_cap=0.05, wrap_theta=True,
            drop_current_point=False, nan_heading="box", workers=None):
  """Reads routes and joins their windows.

  Args:
    root, labels_root: see bench2drive.read_route.
    routes: names, e.g. one side of bench2drive.split.
    history, horizon, wrap_theta, drop_current_point: see make_windows.
    on_bad_record: "fail" stops at the first bad route; "skip" leaves bad
      routes out, with a warning each, until more than a share `skip_cap` of
      them (rounded up) is bad. Misaligned labels always stop.
    nan_heading: see bench2drive.read_route.
    workers: reading processes; by default one, or one per core from
      PARALLEL_FROM routes on.

  Raises:
    DataError: a bad route as described, or no sample at all.
  """
  if workers is None:
    workers = os.cpu_count() if len(routes) >= PARALLEL_FROM else 1
  read = functools.partial(_windows_of, root, labels_root, dict(
      history=history, horizon=horizon, wrap_theta=wrap_theta,
      drop_current_point=drop_current_point), nan_heading)
  return gather(root, read, routes, on_bad_record=on_bad_record,
                skip_cap=skip_cap, workers=workers)


def gather(root, read, routes, *, on_bad_record, skip_cap, workers=1):
  """Cuts routes and joins their windows, whatever they are read from.

  Args:
    root: of the routes, for messages.
    read: name -> Windows of that route; raises DataError for a bad one.
    routes, on_bad_record, skip_cap, workers: see collect.

  Raises:
    ConfigError: no such policy.
    DataError: as in collect.
  """
  check_policy(on_bad_record)
  parts, skipped = [], []
  allowed = math.ceil(skip_cap * len(routes))
  for name, result in bench2drive.map_routes(read, routes, workers=workers):
    if isinstance(result, Windows):
      parts.append(result)
      continue
    if (on_bad_record == "fail"
        or isinstance(result, bench2drive.MisalignedError)):
      raise result
    logger.warning("skipped route %s: %s", name, result)
    skipped.append((name, str(result)))
    if len(skipped) > allowed:
      raise errors.DataError(
          f"{len(skipped)} bad routes so far, skip_cap {skip_cap} of "
          f"{len(routes)} allows {allowed}; first: {skipped[0][0]} "
          f"({skipped[0][1]}); repair them or raise skip_cap")
  return join(parts, skipped, root)


def check_policy(on_bad_record):
  """Raises ConfigError unless the policy is "fail" or "skip"."""
  if on_bad_record not in ("fail", "skip"):
    raise errors.ConfigError(
        f"on_bad_record is {on_bad_record!r}; choose 'fail' or 'skip'")


def _windows_of(root, labels_root, options, nan_heading, name):
  route = bench2drive.read_route(
      root, name, labels_root, nan_heading=nan_heading)
  return make_windows(route, root=root, **options)


def join(parts, skipped=(), root=""):
  """Windows of single routes -> Windows of all, in the given order.

  Args:
    parts: as from make_windows, of one root and one horizon.
    skipped: ((name, why), ...) of the routes that were left out.
    root: what they are of, for the message.

  Raises:
    DataError: no part, or some have labels that others lack.
  """
  if not parts:
    raise errors.DataError(
        f"{root}: no sample in the routes asked for, {len(skipped)} of them "
        "skipped; check the split and the horizon")
  arrays = {}
  for key in SAMPLE_ARRAYS:
    found = [getattr(part, key) for part in parts]
    without = [part.routes[0] for part, array in zip(parts, found)
               if array is None]
    if 0 < len(without) < len(parts):
      raise errors.DataError(
          f"{root or parts[0].root}: {len(without)} of {len(parts)} routes "
          f"have no {key}, such as {without[0]}; label all or none")
    arrays[key] = None if without else np.concatenate(found)
  return Windows(
      root=parts[0].root,
      routes=tuple(part.routes[0] for part in parts),
      skipped=tuple(skipped),
      drop_current_point=parts[0].drop_current_point,
      route_index=np.repeat(np.arange(len(parts), dtype=np.int32),
                            [len(part) for part in parts]),
      **arrays)
