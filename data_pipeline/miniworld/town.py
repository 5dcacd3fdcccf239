"""Roads of the embedded world: lanes, what they are called, what is drivable.

A town is a highway-env RoadNetwork (metres; x forward, y right, as in CARLA)
with OpenDRIVE-like names for its lanes and a list of coloured ground polygons
that the cameras warp and the off-road check reads. Traffic keeps right.

Axes: P polygon points, N route samples.
"""

import dataclasses

import numpy as np
from highway_env.road import road as roads

from data_pipeline.miniworld import paths

LANE = 3.5        # lane width [m]
PARKING = 2.4     # parking strip [m]
PAVEMENT = 3.0    # [m]
SPEED_LIMIT = 14.0  # upper bound for traffic [m/s]
MARGIN = 22.0     # of ground beside the outermost lane [m]

# CARLA's commands.
LEFT, RIGHT, STRAIGHT, FOLLOW, CHANGE_LEFT, CHANGE_RIGHT = range(1, 7)


@dataclasses.dataclass(frozen=True)
class LaneName:
  """OpenDRIVE-like address of a lane; ids of opposing lanes differ in sign."""

  road_id: int
  lane_id: int
  section_id: int = 0
  is_junction: bool = False
  command: int = FOLLOW


@dataclasses.dataclass
class Town:
  """A road network and its ground.

  Attributes:
    network: highway-env lanes.
    names: lane index (from, to, number) -> LaneName.
    paint: (colour name, polygon [P,2] in metres) in painting order.
    drivable: polygons [P,2] on which wheels may stand.
  """

  network: roads.RoadNetwork = dataclasses.field(
      default_factory=roads.RoadNetwork)
  names: dict = dataclasses.field(default_factory=dict)
  paint: list = dataclasses.field(default_factory=list)
  drivable: list = dataclasses.field(default_factory=list)
  _boxes: tuple | np.ndarray = ()

  def add_lane(self, start, end, path, name):
    """Adds a lane along a Path; returns its index."""
    self.network.add_lane(start, end, paths.PathLane(path, LANE, SPEED_LIMIT))
    number = len(self.network.graph[start][end]) - 1
    self.names[start, end, number] = name
    return start, end, number

  def lane_at(self, position, heading):
    """(lane index, LaneName) of the lane nearest to a point.

    Outside junctions the heading is ignored, as CARLA's map does, so that a
    car that overtakes in the opposing lane is reported there.
    """
    best, found = np.inf, None
    for far, rank, index, name in sorted(self._by_distance(position)):
      if far - paths.STEP > best:
        break
      lane = self.network.get_lane(index)
      weight = 2.0 if name.is_junction else 0.0
      cost = lane.distance_with_heading(position, heading, weight)
      if (cost, rank) < (best, found[0] if found else 0):
        best, found = cost, (rank, index, name)
    return found[1:]

  def _by_distance(self, position):
    """(least distance, rank, lane index, LaneName) of every lane: no point of
    a lane is nearer than the rectangle around all of it."""
    if len(self._boxes) != len(self.names):
      self._boxes = np.array([
          [path.xy.min(0), path.xy.max(0)] for path in (
              self.network.get_lane(index).path  # pyright: ignore[reportAttributeAccessIssue]
              for index in self.names)])
    low, high = np.moveaxis(np.asarray(self._boxes), 1, 0)  # 2x [L,2]
    beyond = np.maximum(low - position, position - high)
    far = np.hypot(*np.maximum(beyond, 0.0).T)
    return [(d, i, *item) for i, (d, item) in enumerate(zip(
        far.tolist(), self.names.items()))]

  @property
  def bounds(self):
    """x0, y0, x1, y1 of the ground [m]."""
    points = np.concatenate(self.drivable)
    return (*(points.min(0) - MARGIN), *(points.max(0) + MARGIN))

  def road(self, polygon, colour="asphalt"):
    self.drivable.append(polygon)
    self.paint.append((colour, polygon))

  def mark(self, polygon, colour="white"):
    self.paint.append((colour, polygon))

  def line(self, path, offset, colour="white", **style):
    """A line along a path; see Path.dashes for the style."""
    for polygon in path.dashes(offset, **style):
      self.mark(polygon, colour)


def right_of(heading):
  """Unit vector to the right of a unit heading vector [2]."""
  return np.array([-heading[1], heading[0]])


def street(length, own=1, opposing=1, beyond=40.0):
  """A straight street along +x; own lanes lie at y > 0.

  Args:
    length: metres; lanes run from x = 0 to x = length.
    own: lanes towards +x. opposing: lanes towards -x.
    beyond: asphalt before and behind the lanes [m].

  Returns:
    Town; own lanes are ("a", "b", i) and opposing ones ("c", "d", i), both
    counted from the middle; lane ids are -(i+1) and i+1 on road 1.
  """
  town = Town()
  middle = paths.trace((0.0, 0.0), 0.0, [(length, 0.0)])
  for i in range(own):
    town.add_lane("a", "b", middle.shifted((i + 0.5) * LANE),
                  LaneName(1, -(i + 1)))
  for i in range(opposing):
    town.add_lane("c", "d", middle.reversed().shifted((i + 0.5) * LANE),
                  LaneName(1, i + 1))
  whole = paths.trace((-beyond, 0.0), 0.0, [(length + 2 * beyond, 0.0)])
  left, right = -opposing * LANE, own * LANE
  for colour, extra in (("pavement", PAVEMENT), ("kerb", 0.25)):
    extra += PARKING
    town.mark(whole.ribbon(left - extra, right + extra), colour)
  town.road(whole.ribbon(left - PARKING, right + PARKING), "parking")
  town.mark(whole.ribbon(left, right), "asphalt")
  for edge in (left, right):
    town.line(whole, edge, width=0.12, dash=1.0, gap=1.0)
  for i in [*range(1, own), *range(-1, -opposing, -1)]:
    town.line(whole, i * LANE)
  if own == 1:  # crossing the middle is allowed: dashed yellow
    town.line(whole, 0.0, "yellow", width=0.18)
  else:
    for offset in (-0.16, 0.16):
      town.line(whole, offset, "yellow", width=0.14, gap=0)
  return town


@dataclasses.dataclass
class Route:
  """The road to drive.

  Attributes:
    path: the line to follow, N samples.
    command [N] int, junction [N] bool: of the lane at each sample.
  """

  path: paths.Path
  command: np.ndarray
  junction: np.ndarray

  def __post_init__(self):
    self.curvature = np.gradient(self.path.heading, self.path.s)   # [N] 1/m

  @property
  def xy(self):
    return self.path.xy                                            # [N,2]

  @property
  def s(self):
    return self.path.s                                             # [N]

  @property
  def heading(self):
    return self.path.heading                                       # [N]

  @property
  def length(self):
    return self.path.length

  def point(self, s, offset=0.0):
    """World point [2] at s metres, `offset` metres to the right."""
    return self.path.point(s, offset)

  def index(self, s):
    return min(max(round(s / paths.STEP), 0), len(self.s) - 1)

  def project(self, position, near=None, reach=15.0):
    """(s, offset to the right) of the nearest sample.

    Args:
      position: world point [2].
      near: s around which to look, within `reach` metres; None: everywhere.
    """
    if near is None:
      return self.path.project(position)
    return self.path.project(position, self.index(near - reach),
                             self.index(near + reach) + 1)


def route(town, indices, start=0.0, end=None):
  """The lanes `indices` of a town, one after the other, as a Route.

  Args:
    start: metres into the first lane. end: metres into the last lane.
  """
  xy, heading, owner = [], [], []
  for number, index in enumerate(indices):
    path = town.network.get_lane(index).path
    last = path.length if end is None or number < len(indices) - 1 else end
    first = start if number == 0 else 0.0
    keep = (path.s >= first) & (path.s < last)
    xy.append(path.xy[keep])
    heading.append(path.heading[keep])
    owner += [index] * int(keep.sum())
  xy, heading = np.concatenate(xy), np.unwrap(np.concatenate(heading))
  heading -= 2 * np.pi * np.round(heading[0] / (2 * np.pi))
  line = paths.resampled(xy, heading)
  gone = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
  nearest = np.searchsorted(gone, line.s - 1e-6).clip(0, len(owner) - 1)
  names = [town.names[owner[i]] for i in nearest]
  return Route(line, np.array([name.command for name in names]),
               np.array([name.is_junction for name in names]))


def line_route(town, start, offset, change=None):
  """Route along a straight street.

  Args:
    start: metres along the street. offset: to the right of its middle [m].
    change: object with start, length, across and shift(s), see scene.Change,
      or None. A change of a whole lane or more is a command.
  """
  lane = town.network.get_lane(("a", "b", 0)).path
  s = np.arange(0.0, lane.length - start, paths.STEP)
  aside = np.array([change.shift(x) if change else 0.0 for x in s])
  xy = np.stack([start + s, offset + aside], -1)
  heading = np.arctan(np.gradient(aside, s))
  line = paths.resampled(xy, heading)
  command = np.full(len(line.s), FOLLOW)
  if change and abs(change.across) >= LANE:
    over = ((line.s >= change.start)
            & (line.s < change.start + change.length))
    command[over] = CHANGE_LEFT if change.across < 0 else CHANGE_RIGHT
  return Route(line, command, np.zeros(len(line.s), bool))
