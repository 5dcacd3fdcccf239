"""Navigation targets: the next node of a dense and of a sparse route.

The dense plan has a node every metre, the sparse one about every 50 m plus
the entry and exit of every junction. A node is dropped once the car is nearer
to it than a minimum distance; the next one is the target.
"""

import numpy as np

from data_pipeline.miniworld import paths

NEAR_DISTANCE, FAR_DISTANCE = 4.0, 7.5  # [m]
SPACING = 50.0                          # of the sparse plan [m]


def dense(route):
  """Nodes a metre apart: (xy [N,2], command [N])."""
  step = round(1.0 / paths.STEP)
  return route.xy[::step], route.command[::step]


def sparse(route):
  """Nodes <= 50 m apart, keeping where commands change: (xy, command)."""
  xy, command = dense(route)
  keep, last = [0], 0
  for i in range(1, len(xy)):
    if (command[i] != command[i - 1] or i - last >= SPACING
        or i == len(xy) - 1):
      keep.append(i)
      last = i
  return xy[keep], command[keep]


class Planner:
  """Walks along nodes; the target is one node beyond the last one passed."""

  def __init__(self, nodes, distance, scan=25.0):
    """Args: nodes (xy [N,2], command [N]); distance at which a node counts
    as reached [m]; scan: how far along the nodes to look [m]."""
    self._xy, self._command = nodes
    self._distance, self._scan, self._at = distance, scan, 0
    steps = np.hypot(*np.diff(self._xy, axis=0).T)
    self._gone = np.concatenate([[0.0], np.cumsum(steps)])

  def target(self, position):
    """(x, y, command) of the next node for a measured position [2]."""
    last, first = len(self._xy) - 1, self._at + 1
    # One node beyond the scan is looked at, too.
    stop = 1 + int(np.searchsorted(
        self._gone, self._gone[self._at] + self._scan, side="right"))
    gap = np.hypot(*(self._xy[first:stop] - position).T)
    near = np.flatnonzero(gap <= self._distance)
    if len(near):  # the farthest of those that are reached
      self._at = min(first + int(near[gap[near].argmax()]), max(last - 1, 0))
    i = min(self._at + 1, last)
    return float(self._xy[i, 0]), float(self._xy[i, 1]), int(self._command[i])
