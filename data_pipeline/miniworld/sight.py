"""What the cameras can see: lines of sight past boxes, and a point count.

Every actor is sampled at nine points; a point counts as seen when the segment
from the nearest-facing camera to it crosses no other box. The count imitates
a lidar: proportional to the visible solid angle.

Axes: A actors, K=9 sample points, O occluding boxes.
"""

import numpy as np

from data_pipeline.miniworld import cameras

DENSITY = 13_600.0  # points per steradian
REACH = 100.0       # actors are listed within this distance [m]
SAMPLES = np.array([  # in half sizes: two corners and a middle per height
    [0.9, -0.9, -0.7], [0.9, 0.9, -0.7], [-0.9, -0.9, -0.7],
    [0.0, 0.0, 0.0], [0.9, 0.9, 0.0], [-0.9, -0.9, 0.0],
    [-0.9, 0.9, 0.8], [0.9, 0.9, 0.8], [-0.9, -0.9, 0.8]])


def boxes(actors):
  """Arrays (centre [A,3], yaw [A], half sizes [A,3]) of actors."""
  centre = np.array([a.centre for a in actors]).reshape(-1, 3)
  yaw = np.array([a.yaw for a in actors])
  return centre, yaw, np.array([a.extent for a in actors]).reshape(-1, 3)


def visible_share(position, heading, targets, occluders, same):
  """Share of each target's sample points that some camera sees: [A].

  Args:
    position, heading: ego pose.
    targets, occluders: box arrays as from boxes().
    same: [A,O] bool, True where an occluder is the target itself.
  """
  centre, yaw, half = targets
  if not len(centre):
    return np.zeros(0)
  eyes = _eyes(position, heading, centre)                     # [A,3]
  points = centre[:, None] + _turned(SAMPLES * half[:, None], yaw)  # [A,K,3]
  blocked = _blocked(eyes, points, occluders) & ~same[:, None]      # [A,K,O]
  return 1.0 - blocked.any(-1).mean(-1)


def point_count(position, targets, share):
  """Imitated number of lidar points on each target: [A] int."""
  centre, yaw, half = targets
  delta = centre[:, :2] - position
  distance = np.maximum(np.hypot(*delta.T), 1.0)
  bearing = np.arctan2(delta[:, 1], delta[:, 0]) - yaw
  width = 2 * (half[:, 0] * np.abs(np.sin(bearing))
               + half[:, 1] * np.abs(np.cos(bearing)))
  solid = width * 2 * half[:, 2] / distance ** 2
  return np.floor(DENSITY * np.minimum(solid, 2.0) * share).astype(int)


def _eyes(position, heading, centre):
  """The camera whose axis points nearest to each target: [A,3]."""
  delta = centre[:, :2] - position
  bearing = np.arctan2(delta[:, 1], delta[:, 0]) - heading
  gap = bearing[:, None] - cameras.BEARINGS                   # [A,6]
  best = np.abs(np.arctan2(np.sin(gap), np.cos(gap))).argmin(1)
  eyes = _turned(cameras.MOUNTS[None], np.array([heading]))[0]  # [6,3]
  return (eyes + np.array([position[0], position[1], 0.0]))[best]


def _turned(points, yaw):
  """Rotates points [A,K,3] about z by yaw [A]."""
  cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
  x, y, z = np.moveaxis(points, -1, 0)
  return np.stack([cos * x - sin * y, sin * x + cos * y,
                   np.broadcast_to(z, (cos * x).shape)], -1)


def _blocked(eyes, points, occluders):
  """Whether a segment eye -> point crosses a box: [A,K,O] bool."""
  centre, yaw, half = occluders
  cos, sin = np.cos(yaw), np.sin(yaw)                         # [O]

  def local(p):                                               # [...,3]
    d = p[..., None, :] - centre                              # [...,O,3]
    return np.stack([cos * d[..., 0] + sin * d[..., 1],
                     cos * d[..., 1] - sin * d[..., 0], d[..., 2]], -1)

  start = local(eyes)[:, None]                                # [A,1,O,3]
  step = local(points) - start                                # [A,K,O,3]
  step = np.where(np.abs(step) < 1e-9, 1e-9, step)
  one, two = (-half - start) / step, (half - start) / step
  enter = np.minimum(one, two).max(-1)
  leave = np.maximum(one, two).min(-1)
  return (enter < leave) & (leave > 0.0) & (enter < 1.0)
