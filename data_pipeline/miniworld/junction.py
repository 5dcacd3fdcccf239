"""Junctions of the embedded world: three or four arms around the origin.

The ego arrives from the west arm, heading +x, so north (-y) is its left and
south (+y) its right. Box sizes, kerbs and the shape of each turn are free: a
turn's course can be read from kerbs and guide lines, not from route nodes.
"""

import dataclasses

import numpy as np

from data_pipeline.miniworld import paths as lines
from data_pipeline.miniworld import town as towns

LANE = towns.LANE
ARMS = {"W": (-1.0, 0.0), "E": (1.0, 0.0), "N": (0.0, -1.0), "S": (0.0, 1.0)}
CORNERS = (("W", "S"), ("S", "E"), ("E", "N"), ("N", "W"))
STOP_LINE = 4.2      # before the box [m]
PARKING_FROM = 8.0   # no parking nearer to the box than this [m]


@dataclasses.dataclass(frozen=True)
class Junction:
  """What a junction looks like; all lengths in metres.

  Attributes:
    arms: {letter: pieces of the arm's middle, from the box outward}.
    box: half size of the junction along x (W, E) and along y (N, S).
    corners: kerb radius per pair of CORNERS.
    parking: arms have parking strips.
    crosswalks: zebra stripes on the arms.
  """

  arms: dict
  box: tuple
  corners: dict
  parking: bool
  crosswalks: bool

  def size(self, arm):
    return self.box[0] if arm in "WE" else self.box[1]

  def middle(self, arm):
    """Path of an arm's middle line, from the box outward."""
    out = np.array(ARMS[arm])
    return lines.trace(out * self.size(arm), np.arctan2(out[1], out[0]),
                       self.arms[arm])


def turn_of(start, end):
  """Command that leads from arm `start` to arm `end`."""
  heading = -np.array(ARMS[start])
  side = float(np.dot(ARMS[end], towns.right_of(heading)))
  if side > 0.5:
    return towns.RIGHT
  return towns.LEFT if side < -0.5 else towns.STRAIGHT


def build(spec, movements):
  """Town with the arms of `spec` and the given movements through the box.

  Args:
    spec: Junction.
    movements: {(from arm, to arm): turn radius, None for straight on}.

  Returns:
    (Town, {movement: list of lane indices from arm to arm}).
  """
  town = towns.Town()
  for number, arm in enumerate(spec.arms):
    _arm_lanes(town, spec, arm, 1 + number)
  paths = {}
  for number, (move, radius) in enumerate(sorted(movements.items())):
    paths[move] = _connect(town, *move, radius, 11 + number)  # pyright: ignore[reportCallIssue]
  _paint(town, spec)
  for move, path in paths.items():
    if turn_of(*move) != towns.STRAIGHT:
      line = town.network.get_lane(path[1]).path  # pyright: ignore[reportAttributeAccessIssue]
      for side in (-LANE / 2, LANE / 2):
        town.line(line, side, width=0.14, dash=0.9, gap=0.9)
  return town, paths


def _arm_lanes(town, spec, arm, road_id):
  inward = -1 if arm == "W" else 1  # ids are negative along the road's sense
  middle = spec.middle(arm)
  town.add_lane(f"{arm}0", f"{arm}1", middle.reversed().shifted(LANE / 2),
                towns.LaneName(road_id, inward))
  town.add_lane(f"{arm}2", f"{arm}3", middle.shifted(LANE / 2),
                towns.LaneName(road_id, -inward))


def _connect(town, start, end, radius, road_id):
  """Lane through the box: straight in, one arc, straight out."""
  first, last = (f"{start}0", f"{start}1", 0), (f"{end}2", f"{end}3", 0)
  before = town.network.get_lane(first).path
  p0, h0 = before.xy[-1], -np.array(ARMS[start])
  p1, h1 = town.network.get_lane(last).path.xy[0], np.array(ARMS[end])
  command = turn_of(start, end)
  if command == towns.STRAIGHT:
    pieces = [(float(np.dot(p1 - p0, h0)), 0.0)]
  else:
    side = 1.0 if command == towns.RIGHT else -1.0
    pieces = [(float(np.dot(p1 - p0, h0)) - radius, 0.0),
              (radius * np.pi / 2, side / radius),
              (float(np.dot(p1 - p0, h1)) - radius, 0.0)]
  path = lines.trace(p0, np.arctan2(h0[1], h0[0]), pieces)
  index = town.add_lane(f"{start}1", f"{end}2", path, towns.LaneName(
      road_id, -1, is_junction=True, command=command))
  return [first, index, last]


def _corner(spec, pair, extra=0.0):
  """Concave fill between two arms, its kerb an arc; `extra` widens it."""
  a, b = (np.array(ARMS[arm]) for arm in pair)
  radius = spec.corners[pair]
  centre = (a + b) * (LANE + radius)
  arc = [centre - (a * np.sin(t) + b * np.cos(t)) * (radius - extra)
         for t in np.linspace(0, np.pi / 2, 13)]
  return np.stack([(a + b) * (LANE - 0.1)] + arc)        # [P,2]


def _inside(spec, arm, half):
  """The part of an arm's strip that lies in the box, [P,2]."""
  out = np.array(ARMS[arm])
  side, edge = towns.right_of(out) * half, out * (spec.size(arm) + 0.1)
  back = -out * half
  return np.stack([back - side, edge - side, edge + side, back + side])


def _paint(town, spec):
  middles = {arm: spec.middle(arm) for arm in spec.arms}
  wide = LANE + (towns.PARKING if spec.parking else 0.0)
  corners = [pair for pair in CORNERS if set(pair) <= set(spec.arms)]
  for colour, extra in (("pavement", towns.PAVEMENT), ("kerb", 0.25)):
    for arm, middle in middles.items():
      half = LANE + extra
      town.mark(_inside(spec, arm, half), colour)
      town.mark(middle.ribbon(-half, half), colour)
      town.mark(middle.ribbon(-wide - extra, wide + extra,
                              PARKING_FROM - extra), colour)
    for pair in corners:
      town.mark(_corner(spec, pair, extra), colour)
  for arm, middle in middles.items():
    town.road(_inside(spec, arm, LANE))
    if spec.parking:
      town.road(middle.ribbon(-wide, wide, PARKING_FROM), "parking")
    town.road(middle.ribbon(-LANE, LANE))
  for pair in corners:
    town.road(_corner(spec, pair))
  for middle in middles.values():
    _arm_marks(town, spec, middle)


def _arm_marks(town, spec, middle):
  town.line(middle, 0.0, "yellow", width=0.18)
  town.mark(middle.ribbon(-LANE, 0.0, STOP_LINE, STOP_LINE + 0.45))
  if spec.crosswalks:
    for offset in np.arange(-LANE + 0.5, LANE, 1.0):
      town.mark(middle.ribbon(offset - 0.25, offset + 0.25, 1.0, 3.6))
