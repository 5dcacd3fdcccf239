"""Which windows the report shows: the same ones each time, good and bad.

Per labelled skill the best of those in which something happens and the worst
of all, then the sharpest turn to each side. Axes: M windows, H steps.
"""

import numpy as np

from drivemoe_jax.evaluators import open_loop, routing

APART = 10  # frames between two examples of one route, else they look alike
TURN_RAD = 0.05


def choose(predictions):
  """Picks informative windows.

  Args:
    predictions: the arrays of predictions.npz.

  Returns:
    [(window, why)] without repetitions, ordered by skill.
  """
  error = open_loop.step_errors(
      predictions["pred"], predictions["gt"])[:, 1:].mean(1)  # [M]
  happens = predictions["turns"] | predictions["begins_to_brake"]
  turn = predictions["heading_change"]                   # [M]
  usable = predictions["valid"]
  chosen = []

  def take(order, why):
    for window in order:
      if all(_apart(predictions, window, other) for other, _ in chosen):
        chosen.append((int(window), why))
        return

  for skill in np.unique(predictions["skill"]):
    name = routing.SKILL_NAMES[skill] if skill >= 0 else "Unlabelled"
    mine = np.flatnonzero(usable & (predictions["skill"] == skill))
    eventful = mine[happens[mine]]
    take(_by(error, eventful if len(eventful) else mine), f"{name}: a good one")
    take(_by(-error, mine), f"{name}: the worst one")
  for side, sign in (("left", 1), ("right", -1)):
    mine = np.flatnonzero(usable & (sign * turn < -TURN_RAD))
    take(_by(sign * turn, mine), f"the sharpest turn to the {side}")
  return chosen


def _by(key, windows):
  """Windows by ascending key; ties keep their order."""
  return windows[np.argsort(key[windows], kind="stable")]


def _apart(predictions, one, other):
  """Whether two windows are of different routes or well apart in time."""
  route, frame = predictions["route"], predictions["frame"]
  return route[one] != route[other] or abs(
      int(frame[one]) - int(frame[other])) >= APART
