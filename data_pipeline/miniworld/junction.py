"""Junctions of the embedded world: three or four arms around the origin.

The ego arrives from the west arm, heading +x, so north (-y) is its left and
south (+y) its right. Box sizes and corner radii are free: the place where a
turn begins can be read from the kerbs, not from the route's nodes.
"""

import dataclasses

import numpy as np
from highway_env.road import lane as lanes

from data_pipeline.miniworld import town as towns

LANE = towns.LANE
ARMS = {"W": (-1.0, 0.0), "E": (1.0, 0.0), "N": (0.0, -1.0), "S": (0.0, 1.0)}
STOP_LINE = 4.2      # before the box [m]
PARKING_FROM = 8.0  # no parking nearer to the box than this [m]
CORNERS = (("W", "S"), ("S", "E"), ("E", "N"), ("N", "W"))


@dataclasses.dataclass(frozen=True)
class Junction:
  """What a junction looks like; all lengths in metres.

  Attributes:
    arms: subset of W, E, N, S.
    box: half size of the junction along x (W, E) and along y (N, S).
    reach: length of the arms.
    corners: kerb radius per pair of CORNERS.
    parking: arms have parking strips.
    crosswalks: zebra stripes on the arms.
  """

  arms: tuple
  box: tuple
  reach: tuple
  corners: dict
  parking: bool
  crosswalks: bool

  def size(self, arm):
    return self.box[0] if arm in "WE" else self.box[1]

  def length(self, arm):
    return self.reach[0] if arm == "W" else self.reach[1]


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
    movements: {(from arm, to arm): turn radius or None for straight}.

  Returns:
    (Town, {movement: list of lane indices from arm to arm}).
  """
  reach = max(spec.reach) + max(spec.box) + 5.0
  town = towns.Town((-spec.reach[0] - spec.box[0] - 40.0, -reach,
                     spec.reach[1] + spec.box[0] + 40.0, reach))
  _paint(town, spec)
  for number, arm in enumerate(spec.arms):
    _arm_lanes(town, spec, arm, 1 + number)
  paths = {}
  for number, (move, radius) in enumerate(sorted(movements.items())):
    paths[move] = _connect(town, spec, *move, radius, 11 + number)
  return town, paths


def _arm_points(spec, arm):
  """(outward direction, entry into the box, exit from the box), each [2]."""
  out = np.array(ARMS[arm])
  edge = out * spec.size(arm)
  return (out, edge + towns.right_of(-out) * LANE / 2,
          edge + towns.right_of(out) * LANE / 2)


def _arm_lanes(town, spec, arm, road_id):
  out, entry, exit_ = _arm_points(spec, arm)
  far = out * spec.length(arm)
  inward = -1 if arm == "W" else 1  # ids are negative along the road's sense
  town.add_lane(f"{arm}0", f"{arm}1", lanes.StraightLane(
      entry + far, entry, LANE, speed_limit=towns.SPEED_LIMIT),
      towns.LaneName(road_id, inward))
  town.add_lane(f"{arm}2", f"{arm}3", lanes.StraightLane(
      exit_, exit_ + far, LANE, speed_limit=towns.SPEED_LIMIT),
      towns.LaneName(road_id, -inward))


def _connect(town, spec, start, end, radius, road_id):
  out0, p0, _ = _arm_points(spec, start)
  h1, _, p1 = _arm_points(spec, end)
  h0, command = -out0, turn_of(start, end)
  name = towns.LaneName(road_id, -1, is_junction=True, command=command)
  first, last = (f"{start}0", f"{start}1", 0), (f"{end}2", f"{end}3", 0)
  if command == towns.STRAIGHT:
    index = town.add_lane(f"{start}1", f"{end}2", lanes.StraightLane(
        p0, p1, LANE, speed_limit=towns.SPEED_LIMIT), name)
    return [first, index, last]
  side = 1.0 if command == towns.RIGHT else -1.0
  lead_in = float(np.dot(p1 - p0, h0)) - radius
  lead_out = float(np.dot(p1 - p0, h1)) - radius
  a, b = p0 + h0 * lead_in, p1 - h1 * lead_out
  centre = a + side * radius * towns.right_of(h0)
  phase = float(np.arctan2(*(a - centre)[::-1]))
  mid = f"{start}>{end}"
  pieces = [
      (f"{start}1", f"{mid}a", lanes.StraightLane(
          p0, a, LANE, speed_limit=towns.SPEED_LIMIT)),
      (f"{mid}a", f"{mid}b", lanes.CircularLane(
          centre, radius, phase, phase + side * np.pi / 2, side > 0, LANE,
          speed_limit=towns.SPEED_LIMIT)),
      (f"{mid}b", f"{end}2", lanes.StraightLane(
          b, p1, LANE, speed_limit=towns.SPEED_LIMIT))]
  return [first] + [town.add_lane(*piece, name) for piece in pieces] + [last]


def _strip(spec, arm, near, far, half):
  """Rectangle across an arm from `near` to `far` metres off the centre."""
  out = np.array(ARMS[arm])
  side = towns.right_of(out) * half
  return np.stack([out * near - side, out * far - side,
                   out * far + side, out * near + side])


def _corner(spec, pair, extra=0.0):
  """Concave fill between two arms, its kerb an arc; `extra` widens it."""
  a, b = (np.array(ARMS[arm]) for arm in pair)
  radius = spec.corners[pair]
  centre = (a + b) * (LANE + radius)
  angles = np.linspace(0, np.pi / 2, 13)
  arc = [centre - (a * np.sin(t) + b * np.cos(t)) * (radius - extra)
         for t in angles]
  return np.stack([(a + b) * (LANE - 0.1)] + arc)        # [P,2]


def _paint(town, spec):
  far = {arm: spec.size(arm) + spec.length(arm) + 40.0 for arm in spec.arms}
  beside = {arm: spec.size(arm) + PARKING_FROM for arm in spec.arms}
  wide = LANE + (towns.PARKING if spec.parking else 0.0)
  corners = [pair for pair in CORNERS if set(pair) <= set(spec.arms)]
  for colour, extra in (("pavement", towns.PAVEMENT), ("kerb", 0.25)):
    for arm in spec.arms:
      town.mark(_strip(spec, arm, -LANE - extra, far[arm], LANE + extra),
                colour)
      town.mark(_strip(spec, arm, beside[arm] - extra, far[arm],
                       wide + extra), colour)
    for pair in corners:
      town.mark(_corner(spec, pair, extra), colour)
  for arm in spec.arms:
    town.road(_strip(spec, arm, -LANE, far[arm], LANE))
    if spec.parking:
      town.road(_strip(spec, arm, beside[arm], far[arm], wide), "parking")
      town.mark(_strip(spec, arm, beside[arm], far[arm], LANE), "asphalt")
  for pair in corners:
    town.road(_corner(spec, pair))
  for arm in spec.arms:
    _arm_marks(town, spec, arm, far[arm])


def _arm_marks(town, spec, arm, far):
  out = np.array(ARMS[arm])
  right, size = towns.right_of(-out), spec.size(arm)
  for line in towns.dashes(out * size, out * far, 0.18):
    town.mark(line, "yellow")
  stop = out * (size + STOP_LINE)
  town.mark(np.stack([stop, stop + right * LANE, stop + right * LANE
                      + out * 0.45, stop + out * 0.45]))
  if spec.crosswalks:
    for offset in np.arange(-LANE + 0.4, LANE - 0.2, 1.0):
      town.mark(_strip(spec, arm, size + 1.0, size + 3.6, 0.25)
                + right * (offset + 0.1))
