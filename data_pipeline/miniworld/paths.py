"""Curves on the ground: sampled lines with headings, and lanes along them.

A path is traced from pieces of constant curvature; lanes, kerbs, markings and
routes are paths beside it. Positive curvature and offsets are to the right.

Axes: N samples, P polygon points.
"""

import dataclasses
import functools

import numpy as np
from highway_env.road import lane as lanes

STEP = 0.25  # distance of samples [m]
RECENT = 64  # points whose place along a lane is kept


@dataclasses.dataclass(frozen=True)
class Path:
  """A smooth line: s [N] metres from its start, xy [N,2] m, heading [N] rad."""

  s: np.ndarray
  xy: np.ndarray
  heading: np.ndarray

  @property
  def length(self):
    return float(self.s[-1])

  @functools.cached_property
  def _columns(self):
    """x [N] and y [N], each in one piece: half of the time of `project`."""
    return np.ascontiguousarray(self.xy.T)

  def heading_at(self, s):
    return float(np.interp(s, self.s, self.heading))

  def point(self, s, offset=0.0):
    """World point [2] at s, `offset` to the right; straight beyond the ends."""
    heading = self.heading_at(s)
    inside = min(max(s, 0.0), self.length)
    beyond = s - inside
    x = np.interp(inside, self.s, self.xy[:, 0])
    y = np.interp(inside, self.s, self.xy[:, 1])
    cos, sin = np.cos(heading), np.sin(heading)
    return np.array([x + beyond * cos - offset * sin,
                     y + beyond * sin + offset * cos])

  def project(self, position, lo=0, hi=None):
    """(s, offset to the right) of a point, by the nearest of samples lo:hi."""
    x, y = self._columns
    dx, dy = x[lo:hi] - position[0], y[lo:hi] - position[1]
    i = lo + int((dx * dx + dy * dy).argmin())
    dx, dy = position - self.xy[i]
    cos, sin = np.cos(self.heading[i]), np.sin(self.heading[i])
    return float(self.s[i] + dx * cos + dy * sin), float(dy * cos - dx * sin)

  def shifted(self, offset):
    """The parallel path `offset` metres to the right, as long as it is."""
    xy = self.xy + offset * _sides(self.heading)
    return resampled(xy, self.heading)

  def reversed(self):
    return Path(self.s[-1] - self.s[::-1], self.xy[::-1],
                self.heading[::-1] + np.pi)

  def ribbon(self, left, right, start=0.0, end=np.inf):
    """Polygon [P,2] between two offsets, from `start` to `end` metres."""
    end = min(end, self.length)
    inner = (self.s > start) & (self.s < end)
    s = np.concatenate([[start], self.s[inner], [end]])
    xy = np.stack([np.interp(s, self.s, column) for column in self.xy.T], -1)
    side = _sides(np.interp(s, self.s, self.heading))
    return np.concatenate([xy + left * side, (xy + right * side)[::-1]])

  def dashes(self, offset, width=0.15, dash=3.0, gap=4.5):
    """Polygons of a dashed line at an offset; gap 0 is a solid line."""
    starts = [0.0] if gap == 0 else np.arange(0.0, self.length, dash + gap)
    long = np.inf if gap == 0 else dash
    return [self.ribbon(offset - width / 2, offset + width / 2, s, s + long)
            for s in starts]


def _sides(heading):
  """Unit vectors to the right: [N] -> [N,2]."""
  return np.stack([-np.sin(heading), np.cos(heading)], -1)


def trace(start, heading, pieces):
  """Path from a point [2] through pieces (length [m], curvature [1/m])."""
  lengths, bends = np.array(pieces, float).T
  breaks = np.concatenate([[0.0], np.cumsum(lengths)])
  turned = np.concatenate([[0.0], np.cumsum(lengths * bends)])
  fine = np.linspace(0.0, breaks[-1], int(breaks[-1] / 0.02) + 2)
  heading = heading + np.interp(fine, breaks, turned)
  middle = (heading[1:] + heading[:-1]) / 2
  steps = np.stack([np.cos(middle), np.sin(middle)], -1)
  steps *= np.diff(fine)[:, None]
  xy = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)]) + start
  return resampled(xy, heading)


def resampled(xy, heading):
  """Path through points [N,2] with headings [N], sampled every STEP."""
  gone = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
  s = np.append(np.arange(0.0, gone[-1] - 1e-6, STEP), gone[-1])
  return Path(s, np.stack([np.interp(s, gone, c) for c in xy.T], -1),
              np.interp(s, gone, heading))


def winding(rng, length, bend=(11.0, 16.0), swing=0.7):
  """Pieces of a winding road of a given length.

  Args:
    bend: least and greatest radius [m].
    swing: the heading stays within this of the first one [rad].
  """
  pieces, left, heading = [], length, 0.0
  sign = 1.0 if rng.random() < 0.5 else -1.0
  while left > 0:
    radius = float(rng.uniform(*bend))
    room = max(swing - sign * heading, 0.2) * radius
    piece = min(float(rng.uniform(4.5, 10.5)), room, left)
    pieces.append((piece, sign / radius))
    heading, left = heading + sign * piece / radius, left - piece
    sign = -sign
  return pieces


class PathLane(lanes.AbstractLane):
  """A highway-env lane along a Path."""

  def __init__(self, path, width, speed_limit):
    self.path, self.width, self.length = path, width, path.length
    self.speed_limit, self.forbidden, self.priority = speed_limit, False, 0
    self._known = {}  # points of late: traffic asks for each N times a tick

  def position(self, longitudinal, lateral):
    return self.path.point(longitudinal, lateral)

  def heading_at(self, longitudinal):
    return self.path.heading_at(longitudinal)

  def width_at(self, longitudinal):
    return self.width

  def local_coordinates(self, position):
    key = position.tobytes()
    if key not in self._known:
      if len(self._known) > RECENT:
        self._known.clear()
      self._known[key] = self.path.project(position)
    return self._known[key]
