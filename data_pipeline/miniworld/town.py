"""Roads of the embedded world: lanes, what they are called, what is drivable.

A town is a highway-env RoadNetwork (metres; x forward, y right, as in CARLA)
with OpenDRIVE-like names for its lanes and a list of coloured ground polygons
that the cameras warp and the off-road check reads. Traffic keeps right.

Axes: P polygon points, N route samples.
"""

import dataclasses

import numpy as np
from highway_env.road import lane as lanes
from highway_env.road import road as roads

LANE = 3.5        # lane width [m]
PARKING = 2.4     # parking strip [m]
PAVEMENT = 3.0    # [m]
ROUTE_STEP = 0.25  # distance of route samples [m]
SPEED_LIMIT = 14.0  # upper bound for traffic [m/s]

LEFT, RIGHT, STRAIGHT, FOLLOW = 1, 2, 3, 4  # CARLA's commands


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
    bounds: x0, y0, x1, y1 of the ground raster in metres.
  """

  bounds: tuple
  network: roads.RoadNetwork = dataclasses.field(
      default_factory=roads.RoadNetwork)
  names: dict = dataclasses.field(default_factory=dict)
  paint: list = dataclasses.field(default_factory=list)
  drivable: list = dataclasses.field(default_factory=list)

  def add_lane(self, start, end, lane, name):
    self.network.add_lane(start, end, lane)
    number = len(self.network.graph[start][end]) - 1
    self.names[start, end, number] = name
    return start, end, number

  def lane_at(self, position, heading):
    """(lane index, LaneName) of the lane nearest to a point.

    Outside junctions the heading is ignored, as CARLA's map does, so that a
    car that overtakes in the opposing lane is reported there.
    """
    def cost(item):
      index, name = item
      lane = self.network.get_lane(index)
      weight = 2.0 if name.is_junction else 0.0
      return lane.distance_with_heading(position, heading, weight)
    return min(self.names.items(), key=cost)

  def road(self, polygon, colour="asphalt"):
    self.drivable.append(np.asarray(polygon, float))
    self.paint.append((colour, np.asarray(polygon, float)))

  def mark(self, polygon, colour="white"):
    self.paint.append((colour, np.asarray(polygon, float)))


def rectangle(x0, y0, x1, y1):
  return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)  # [P,2]


def dashes(start, end, width=0.15, dash=3.0, gap=4.5):
  """Polygons of a dashed line from start to end; gap 0 is a solid line."""
  start, end = np.asarray(start, float), np.asarray(end, float)
  length = np.linalg.norm(end - start)
  along = (end - start) / length
  side = np.array([-along[1], along[0]]) * width / 2
  polygons, s = [], 0.0
  while s < length:
    stop = length if gap == 0 else min(s + dash, length)
    a, b = start + along * s, start + along * stop
    polygons.append(np.stack([a - side, b - side, b + side, a + side]))
    s = stop + gap
  return polygons


def right_of(heading):
  """Unit vector to the right of a unit heading vector [2]."""
  return np.array([-heading[1], heading[0]])


def street(length, own=1, opposing=1, parking=(True, True), margin=40.0):
  """A straight street along +x; own lanes lie at y > 0.

  Args:
    length: metres; lanes run from x = 0 to x = length.
    own: lanes towards +x. opposing: lanes towards -x (0 for a one-way street).
    parking: strip on the left and on the right side.
    margin: ground drawn before and behind [m].

  Returns:
    Town; own lanes are ("a", "b", i) and opposing ones ("c", "d", i), both
    counted from the middle; lane ids are -(i+1) and i+1 on road 1.
  """
  x0, x1 = -margin, length + margin
  left = -opposing * LANE - PARKING * parking[0]
  right = own * LANE + PARKING * parking[1]
  town = Town((x0, left - 30.0, x1, right + 30.0))
  for i in range(own):
    y = (i + 0.5) * LANE
    town.add_lane("a", "b", lanes.StraightLane(
        (0.0, y), (length, y), LANE, speed_limit=SPEED_LIMIT),
        LaneName(1, -(i + 1)))
  for i in range(opposing):
    y = -(i + 0.5) * LANE
    town.add_lane("c", "d", lanes.StraightLane(
        (length, y), (0.0, y), LANE, speed_limit=SPEED_LIMIT),
        LaneName(1, i + 1))
  town.mark(rectangle(x0, left - PAVEMENT, x1, right + PAVEMENT), "pavement")
  town.mark(rectangle(x0, left - 0.25, x1, right + 0.25), "kerb")
  town.road(rectangle(x0, left, x1, right))
  if parking[0]:
    _parking_strip(town, x0, x1, left, left + PARKING)
  if parking[1]:
    _parking_strip(town, x0, x1, right, right - PARKING)
  _lane_lines(town, x0, x1, own, opposing)
  return town


def _parking_strip(town, x0, x1, kerb, edge):
  town.mark(rectangle(x0, min(kerb, edge), x1, max(kerb, edge)), "parking")
  for line in dashes((x0, edge), (x1, edge), 0.12, 1.0, 1.0):
    town.mark(line)


def _lane_lines(town, x0, x1, own, opposing):
  for i in range(1, own):
    for line in dashes((x0, i * LANE), (x1, i * LANE)):
      town.mark(line)
  for i in range(1, opposing):
    for line in dashes((x0, -i * LANE), (x1, -i * LANE)):
      town.mark(line)
  if opposing and own == 1:  # crossing the middle is allowed: dashed yellow
    for line in dashes((x0, 0.0), (x1, 0.0), 0.18):
      town.mark(line, "yellow")
  elif opposing:
    for y in (-0.16, 0.16):
      for line in dashes((x0, y), (x1, y), 0.14, gap=0):
        town.mark(line, "yellow")


@dataclasses.dataclass
class Route:
  """The road to drive: samples every ROUTE_STEP metres.

  Attributes:
    xy [N,2] m, heading [N] rad, curvature [N] 1/m (positive to the right),
    command [N] int, junction [N] bool, s [N] metres from its start.
  """

  xy: np.ndarray
  heading: np.ndarray
  curvature: np.ndarray
  command: np.ndarray
  junction: np.ndarray

  def __post_init__(self):
    self.s = np.arange(len(self.xy)) * ROUTE_STEP  # [N]

  @property
  def length(self):
    return float(self.s[-1])

  def index(self, s):
    return int(np.clip(round(s / ROUTE_STEP), 0, len(self.xy) - 1))

  def point(self, s, offset=0.0):
    """World point [2] at s metres, `offset` metres to the right."""
    i = self.index(s)
    side = np.array([-np.sin(self.heading[i]), np.cos(self.heading[i])])
    return self.xy[i] + offset * side

  def project(self, position, near=None, reach=15.0):
    """(s, lateral offset to the right) of the nearest sample.

    Args:
      position: world point [2].
      near: s around which to look, within `reach` metres; None: everywhere.
    """
    lo, hi = 0, len(self.xy)
    if near is not None:
      lo, hi = self.index(near - reach), self.index(near + reach) + 1
    gap = self.xy[lo:hi] - position
    i = lo + int(np.argmin((gap ** 2).sum(-1)))
    delta = position - self.xy[i]
    cos, sin = np.cos(self.heading[i]), np.sin(self.heading[i])
    along = delta[0] * cos + delta[1] * sin
    return float(self.s[i] + along), float(delta[1] * cos - delta[0] * sin)


def route(town, indices, start=0.0, end=None):
  """Samples the lanes `indices` of a town into a Route.

  Args:
    start: metres into the first lane. end: metres into the last lane.
  """
  xy, heading, curvature, command, junction = [], [], [], [], []
  s = start
  for number, index in enumerate(indices):
    lane, name = town.network.get_lane(index), town.names[index]
    last = number == len(indices) - 1
    stop = end if last and end is not None else lane.length
    bend = getattr(lane, "direction", 0) / lane.radius if hasattr(
        lane, "radius") else 0.0
    while s < stop:
      xy.append(lane.position(s, 0.0))
      heading.append(lane.heading_at(s))
      curvature.append(bend)
      command.append(name.command)
      junction.append(name.is_junction)
      s += ROUTE_STEP
    s -= stop
  return Route(np.array(xy), np.unwrap(heading), np.array(curvature),
               np.array(command), np.array(junction))
