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

  def target(self, position):
    """(x, y, command) of the next node for a measured position [2]."""
    last, travelled, reached = len(self._xy) - 1, 0.0, self._at
    best = -1.0
    for i in range(self._at + 1, last + 1):
      if travelled > self._scan:
        break
      travelled += float(np.linalg.norm(self._xy[i] - self._xy[i - 1]))
      gap = float(np.linalg.norm(self._xy[i] - position))
      if best < gap <= self._distance:
        best, reached = gap, i
    self._at = min(reached, max(last - 1, 0))
    i = min(self._at + 1, last)
    return float(self._xy[i, 0]), float(self._xy[i, 1]), int(self._command[i])
