"""Where the car is and where it should go: GPS, the planar frame, the route.

Numpy only and Python 3.7's syntax, like all that a CARLA agent imports. The
world is CARLA's: metres, x east, y south, so that yaw grows clockwise.
"""

import math

import numpy as np

from data_pipeline import errors

EARTH_RADIUS = 6378137.0   # m, the sphere of CARLA's Mercator projection
MIN_DISTANCE = 7.5         # a node this near counts as reached [m]
SCAN_DISTANCE = 25.0       # how far along the route nodes are looked at [m]


def wrap(angle):
  """Angle in radians -> (-pi, pi]."""
  return math.pi - np.mod(math.pi - angle, 2 * math.pi)


def to_ego(points, position, heading):
  """World points -> ego frame: [...,2], [...,2], [...] -> [...,2]."""
  cos, sin = np.cos(heading), np.sin(heading)
  x, y = np.moveaxis(np.asarray(points, np.float64) - position, -1, 0)
  return np.stack([cos * x + sin * y, cos * y - sin * x], -1)


def _northing(lat):
  """Mercator's northing of a latitude in degrees, for a unit sphere."""
  return math.log(math.tan((90.0 + lat) * math.pi / 360.0))


class Georeference:
  """Latitude and longitude (degrees) <-> world metres, as CARLA maps them.

  CARLA scales Mercator by the cosine of the map's reference latitude, which
  agents are not told; `solve` finds it from one point known in both.
  """

  def __init__(self, lat, lon):
    self.lat, self.lon = lat, lon
    self._scale = math.cos(math.radians(lat)) * EARTH_RADIUS
    self._north = _northing(lat)

  @classmethod
  def solve(cls, gps, xy=None):
    """The reference of a map in which `gps` (lat, lon) lies at `xy` [m].

    Without `xy` the point becomes the origin: distances near it are right,
    only the origin is not the map's.

    Raises:
      DataError: a point that is not finite, or none of this projection.
    """
    lat, lon = (float(v) for v in gps)
    if xy is None:
      xy = (0.0, 0.0)
    x, y = (float(v) for v in xy)
    reference, north = lat, None
    if all(map(math.isfinite, (lat, lon, x, y))) and abs(lat) < 85:
      north = _northing(lat)
      for _ in range(20):  # a contraction by about y / EARTH_RADIUS a turn
        if abs(reference) >= 85:
          break
        radians = math.radians(reference)
        error = (math.cos(radians) * EARTH_RADIUS
                 * (_northing(reference) - north) - y)
        slope = EARTH_RADIUS * math.pi / 180
        reference -= error / slope
      else:
        if abs(error) < 1e-3:  # pyright: ignore[reportPossiblyUnboundVariable]
          metres = EARTH_RADIUS * math.cos(math.radians(reference))
          return cls(reference, lon - math.degrees(x / metres))
    raise errors.DataError(
        f"no map has lat {lat}, lon {lon} at x {x}, y {y} m; check the global "
        "plan")

  def to_world(self, lat, lon):
    """Degrees -> [2] metres."""
    return np.array([self._scale * math.radians(lon - self.lon),
                     self._scale * (self._north - _northing(lat))])

  def to_gps(self, x, y):
    """Metres -> (lat, lon) degrees; the inverse of to_world."""
    north = self._north - y / self._scale
    return (math.degrees(2 * math.atan(math.exp(north))) - 90.0,
            self.lon + math.degrees(x / self._scale))


class RoutePlanner:
  """Walks along the nodes of a route; the target is the one after the last
  that was reached."""

  def __init__(self, nodes, min_distance=MIN_DISTANCE,
               scan_distance=SCAN_DISTANCE):
    """Args: nodes [N,2] m, world; distances as above.

    Raises:
      DataError: fewer than two nodes, or one that is not finite.
    """
    self._nodes = np.asarray(nodes, np.float64).reshape(-1, 2)
    bad = np.count_nonzero(~np.isfinite(self._nodes).all(-1))
    if len(self._nodes) < 2 or bad:
      raise errors.DataError(
          f"a route of {len(self._nodes)} nodes, {bad} of them not finite; "
          "it takes two or more, all finite: check the global plan")
    self._min, self._scan, self._at = min_distance, scan_distance, 0

  def target(self, position):
    """The next node [2] for a car at `position` [2]."""
    reached, farthest, travelled = self._at, -math.inf, 0.0
    for i in range(self._at + 1, len(self._nodes)):
      if travelled > self._scan:
        break
      travelled += math.hypot(*(self._nodes[i] - self._nodes[i - 1]))
      gap = math.hypot(*(self._nodes[i] - position))
      if farthest < gap <= self._min:
        reached, farthest = i, gap
    self._at = min(reached, len(self._nodes) - 2)
    return self._nodes[self._at + 1]
