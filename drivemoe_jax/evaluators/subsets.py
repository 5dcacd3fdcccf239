"""Which windows test the eyes, and which images to show them instead.

Most of driving is going on as before, which any extrapolation predicts. The
windows that turn or begin to brake are those where something outside the car
decides. Axes: M windows, P history frames, H future steps of 0.1 s.
"""

import numpy as np

from data_pipeline import errors

TURN_RAD = np.deg2rad(10.0)
SPEED_DROP = 1.0  # m/s lost within the horizon
STILL_DECELERATION = 1.0  # m/s^2; above it the brake was on already
RECENT = 2  # history frames (0.2 s) over which the present slope is read
HZ = 10
CRITICAL = "turns_or_brakes"  # the subset that the eyes are judged on

DEFINITIONS = {
    "turns": "the heading leaves the present one by more than 10 degrees "
             "within the horizon",
    "begins_to_brake": "the speed falls by more than 1.0 m/s below the present "
                       "one within the horizon, while over the last 0.2 s it "
                       "fell by less than 1.0 m/s^2",
    CRITICAL: "turns or begins_to_brake",
}


def heading_change(future_heading):
  """Largest heading change, with its sign: [M,H] -> [M] rad.

  The headings are relative to now and in (-pi, pi], as windows.py gives them.
  """
  largest = np.abs(future_heading).argmax(1)             # [M]
  return np.take_along_axis(future_heading, largest[:, None], 1)[:, 0]


def turns(future_heading):
  """Windows that turn by more than 10 degrees: [M,H] rad -> [M] bool."""
  return np.abs(heading_change(future_heading)) > TURN_RAD


def begins_to_brake(past_speed, future_speed):
  """Windows that lose speed although they do not brake yet.

  Args:
    past_speed: [M,P] m/s, oldest first, the last one now.
    future_speed: [M,H] m/s, index 0 now.

  Returns:
    [M] bool.
  """
  past, future = np.asarray(past_speed), np.asarray(future_speed)
  steps = min(RECENT, past.shape[1] - 1)
  slope = np.zeros(len(past))  # one frame of history tells no slope
  if steps:
    slope = (past[:, -1] - past[:, -1 - steps]) * HZ / steps  # [M] m/s^2
  drop = past[:, -1] - future.min(1)                     # [M] m/s
  return (drop > SPEED_DROP) & (slope > -STILL_DECELERATION)


def spread(count, limit=None):
  """Ids of at most `limit` of `count` windows, evenly spread, ascending."""
  if limit is None or limit >= count:
    return np.arange(count)
  return np.linspace(0, count - 1, limit).round().astype(int)


def cross_route_permutation(route, seed):
  """A shuffle in which every window gets the images of another route.

  Images of the same route, a second apart, would tell nearly the same story.

  Args:
    route: [M] route id of each window.
    seed: the same seed gives the same shuffle.

  Returns:
    [M] ids: window i is shown the images of window result[i].

  Raises:
    DataError: one route holds more than half of the windows.
  """
  route = np.asarray(route)
  names, counts = np.unique(route, return_counts=True)
  if not len(route) or 2 * counts.max() > len(route):
    raise errors.DataError(
        f"cannot exchange images between routes: of {len(route)} windows "
        f"{counts.max() if len(route) else 0} belong to route "
        f"{names[counts.argmax()] if len(route) else None}; evaluate more "
        "routes")
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(route))                    # [M]
  while True:
    clash = np.flatnonzero(route[order] == route)
    if not len(clash):
      return order
    # Swap with a window of another route that looks at another route: one
    # exists while no route holds more than half, and it makes no new clash.
    i = clash[0]
    good = (route != route[order[i]]) & (route[order] != route[i])
    j = rng.choice(np.flatnonzero(good))
    order[[i, j]] = order[[j, i]]
