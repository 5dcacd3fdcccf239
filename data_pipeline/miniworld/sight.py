"""What the cameras can see: lines of sight past boxes, and a point count.

Every actor is sampled at nine points; a point counts as seen when the segment
from the nearest-facing camera to it crosses no other box. The count imitates
a lidar: proportional to the visible solid angle.

Axes: A actors, K=9 sample points, O occluding boxes, P pairs (actor, box).
"""

import numpy as np

from data_pipeline.miniworld import cameras

DENSITY = 13_600.0  # points per steradian
GLIMPSE = 0.34      # less than this share, a head above a roof, is not seen
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
  share = np.ones(len(centre))
  near = _in_line(position, targets, occluders) & ~same       # [A,O]
  who, what = np.nonzero(near)  # P candidate pairs
  if not len(who):
    return share
  eyes = _eyes(position, heading, centre)                     # [A,3]
  points = centre[:, None] + _turned(SAMPLES * half[:, None], yaw)  # [A,K,3]
  blocked = _blocked(eyes[who], points[who],
                     tuple(part[what] for part in occluders))  # [P,K]
  hidden = np.zeros(points.shape[:2], bool)                   # [A,K]
  np.logical_or.at(hidden, who, blocked)
  return 1.0 - hidden.mean(-1)


def _in_line(position, targets, occluders):
  """Pairs whose bearings overlap with the occluder in front: [A,O] bool."""
  (near_a, bearing_a, spread_a), (near_o, bearing_o, spread_o) = (
      _bearings(position, boxes_) for boxes_ in (targets, occluders))
  gap = np.abs(bearing_a[:, None] - bearing_o)
  gap = np.minimum(gap, 2 * np.pi - gap)
  return ((gap < spread_a[:, None] + spread_o)
          & (near_o[0] < near_a[1][:, None]))


def _bearings(position, boxes_):
  """((least, greatest distance), bearing, half angle) of boxes, [A] each.

  Cameras sit within 2.1 m of the origin, so angles get that much slack.
  """
  centre, _, half = boxes_
  delta = centre[:, :2] - position
  distance, radius = np.hypot(*delta.T), np.hypot(*half[:, :2].T) + 2.1
  spread = np.where(distance > radius, np.arcsin(np.minimum(
      radius / np.maximum(distance, 1e-6), 1.0)), np.pi)
  return ((distance - radius, distance + radius),
          np.arctan2(delta[:, 1], delta[:, 0]), spread)


def point_count(position, targets, share):
  """Imitated number of lidar points on each target: [A] int."""
  centre, yaw, half = targets
  delta = centre[:, :2] - position
  distance = np.maximum(np.hypot(*delta.T), 1.0)
  bearing = np.arctan2(delta[:, 1], delta[:, 0]) - yaw
  width = 2 * (half[:, 0] * np.abs(np.sin(bearing))
               + half[:, 1] * np.abs(np.cos(bearing)))
  solid = width * 2 * half[:, 2] / distance ** 2
  share = np.where(share < GLIMPSE, 0.0, share)
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
  """Whether segments eye [P,3] -> points [P,K,3] cross their box: [P,K]."""
  centre, yaw, half = occluders
  start = _turned((eyes - centre)[:, None], -yaw)             # [P,1,3]
  step = _turned(points - centre[:, None], -yaw) - start      # [P,K,3]
  step = np.where(np.abs(step) < 1e-9, 1e-9, step)
  half = half[:, None]
  one, two = (-half - start) / step, (half - start) / step
  enter = np.minimum(one, two).max(-1)
  leave = np.maximum(one, two).min(-1)
  return (enter < leave) & (leave > 0.0) & (enter < 1.0)
