"""Per-frame facts of a route that several label rules share.

Axes: N frames.
"""

import collections
import dataclasses
import itertools
import math

from data_pipeline.labels import constants as consts

FROM_MAP, FROM_COMMAND = "map", "command"


@dataclasses.dataclass(frozen=True)
class Change:
  """A lane change: from `frame` on the ego is on another lane of its road."""

  frame: int
  old: tuple       # (road, section, lane)
  new: tuple
  side: str        # LEFT or RIGHT, as the driver sees it

  @property
  def opposing(self):
    """Does it cross the middle of the road?"""
    return (self.old[2] < 0) != (self.new[2] < 0)


@dataclasses.dataclass(frozen=True)
class Signals:
  """What the rules read; lists have one entry per frame [N].

  Attributes:
    kind: scenario type. frames: annotations.Frame. speed: m/s.
    near, far: commands of the two planners; far_gap, near_gap: m to their
      nodes. command: near, or far's lane change when it is at hand.
    lanes: (road, section, lane) of the ego. changes: tuple of Change.
    junction: is the ego in one? source: "map" or "command", who says so.
    turn: command of the crossing in a junction, None outside.
    spots: opendrive.Spot per frame, or None without a map.
    tracks: vehicle id -> (least x, most x, least y, most y) in the world, m.
  """

  kind: str
  frames: list
  speed: list
  near: list
  far: list
  near_gap: list
  far_gap: list
  command: list
  lanes: list
  changes: tuple
  junction: list
  source: str
  turn: list
  spots: list
  tracks: dict

  def __len__(self):
    return len(self.frames)

  def horizon(self, t, c):
    """How far ahead an obstacle counts [m]."""
    # In this order a speed that is not known (NaN) leaves the least.
    return max(c.horizon_least, c.horizon_time * self.speed[t])

  def change_from(self, t, c):
    """The lane change that is foreseen at frame t, or None."""
    return next((change for change in self.changes
                 if t < change.frame <= t + c.change_window), None)

  def actors(self, t, c, *kinds):
    """Boxes of these classes at frame t, nearest first; none at the spawn."""
    if t < c.spawn_frames:
      return []
    found = [box for box in self.frames[t].boxes if box.kind in kinds]
    # NaN would break the order; what has no place cannot be judged either.
    found = [box for box in found if math.isfinite(box.distance)]
    return sorted(found, key=lambda box: (box.distance, box.id))

  def drift(self, vehicle_id):
    """Extent of a vehicle's whole track [m]."""
    x0, x1, y0, y1 = self.tracks[vehicle_id]
    return math.hypot(x1 - x0, y1 - y0)

  def home(self, t, c):
    """The usual (road, section, lane) of the road under frame t, up to it."""
    recent = self.lanes[max(t - c.home_window, 0):t + 1]
    return collections.Counter(
        lane for lane in recent if lane[:2] == self.lanes[t][:2]
        ).most_common(1)[0][0]


def each(signals, label):
  """[label(t) for every frame]."""
  return [label(t) for t in range(len(signals))]


def nothing(signals):
  """No label for any frame [N]."""
  return [None] * len(signals)


def fill(labels, start, until, label):
  """Gives frames start..until-1 a label, in place."""
  labels[start:until] = [label] * (until - start)


def read(kind, frames, c, road_map=None):
  """Returns the Signals of a route.

  Args:
    kind: scenario type. frames: annotations.Frame [N].
    c: Constants. road_map: opendrive.RoadMap, or None.
  """
  records = [frame.record for frame in frames]
  near = [record.integer("command_near") for record in records]
  far = [record.integer("command_far") for record in records]
  near_gap = [_gap(frame, "near") for frame in frames]
  far_gap = [_gap(frame, "far") for frame in frames]
  lanes = [frame.lane() for frame in frames]
  spots = road_map and [road_map.spot(frame.location) for frame in frames]
  if spots:
    junction = [spot.junction for spot in spots]
  else:
    junction = _commanded_junction(near, lanes, _travelled(frames),
                                   c.junction_reach)
  command = [
      f if n == consts.FOLLOW and f in consts.SIDE_OF_CHANGE
      and gap < c.far_change else n
      for n, f, gap in zip(near, far, far_gap, strict=True)]
  return Signals(
      kind=kind, frames=frames, speed=[_speed(frame) for frame in frames],
      near=near, far=far, near_gap=near_gap, far_gap=far_gap,
      command=command, lanes=lanes, changes=_changes(lanes, c),
      junction=junction, source=FROM_MAP if spots else FROM_COMMAND,
      turn=_turns(junction, near), spots=spots, tracks=_tracks(frames, c))


def _speed(frame):
  """The speedometer, or where it said nothing the ego box's speed [m/s]."""
  speed = frame.record.number("speed")
  return speed if math.isfinite(speed) else frame.ego.number("speed")


def _gap(frame, node):
  """Distance from the ego to a planner's node [m]."""
  return math.hypot(
      frame.record.number(f"x_command_{node}") - frame.location[0],
      frame.record.number(f"y_command_{node}") - frame.location[1])


def _travelled(frames):
  """Metres driven up to each frame [N]."""
  steps = [math.dist(a.location[:2], b.location[:2])
           for a, b in itertools.pairwise(frames)]
  return list(itertools.accumulate(steps, initial=0.0))


def _tracks(frames, c):
  """Bounds of where each vehicle was, without its first frames."""
  tracks = {}
  for box in (box for frame in frames[c.spawn_frames:] for box in frame.boxes
              if box.kind == "vehicle" and math.isfinite(box.distance)):
    x, y, _ = box.world
    x0, x1, y0, y1 = tracks.get(box.id, (x, x, y, y))
    tracks[box.id] = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
  return tracks


def _changes(lanes, c):
  """Changes of the lane id on one road and section, once the new id holds."""
  found, entry = [], 0
  for t in range(1, len(lanes) - c.hold + 1):
    old, new = lanes[t - 1], lanes[t]
    if old[0] != new[0]:
      entry = t
    if (old[:2] == new[:2] and old[2] != new[2]
        and all(lane == new for lane in lanes[t:t + c.hold])):
      found.append(Change(t, old, new, _side(old[2], new[2],
                                             lanes[entry][2])))
  return tuple(found)


def _side(old, new, entry):
  """Side of a change between lane ids, for a car that came on lane `entry`.

  OpenDRIVE counts lanes from the road's reference line, negative to its right,
  and traffic that keeps right drives along the line on negative lanes. So ids
  fall towards the right of a car that came onto the road on a negative lane.
  Departure from reading the side off the ego's later y: this also holds in a
  bend, and for a car that pulls out from a standstill.
  """
  rightward = new < old if entry < 0 else new > old
  return consts.RIGHT if rightward else consts.LEFT


def _runs(flags):
  """[(first, last)] of the stretches of true entries."""
  runs, t = [], 0
  for value, group in itertools.groupby(flags, bool):
    size = len(list(group))
    if value:
      runs.append((t, t + size - 1))
    t += size
  return runs


def _commanded_junction(near, lanes, travelled, reach):
  """Frames in a junction without a map [N] bool.

  The near command is that of a node some metres ahead, so it tells of a
  junction too early, and too early of its end. The road id under the ego tells
  when the car itself comes in and out: a junction's lanes are roads of their
  own. Where it does not within `reach` metres, the command decides.
  """
  inside = [False] * len(near)
  for first, last in _runs(command in consts.CROSSINGS for command in near):
    near_by = lambda t, origin: travelled[t] - travelled[origin] <= reach
    entry = next((t for t in range(first, last + 1) if near_by(t, first)
                  and lanes[t][0] != lanes[first][0]), None)
    if entry is None and first > 0:
      inside[first:last + 1] = [True] * (last + 1 - first)
      continue
    start = entry or first  # without an entry the drive begins inside
    roads = {lane[0] for lane in lanes[start:last + 1]}
    end = next((t for t in range(last + 1, len(near)) if near_by(t, last)
                and lanes[t][0] not in roads), last + 1)
    inside[start:end] = [True] * (end - start)
  return inside


def _turns(junction, near):
  """Command of the crossing that each frame in a junction belongs to [N].

  Near the exit the command is already that of the road beyond: the last
  crossing command goes on until the junction ends.
  """
  turns = [None] * len(near)
  for first, last in _runs(junction):
    known = [command in consts.CROSSINGS for command in near[first:last + 1]]
    if not any(known):
      continue
    command = near[first + known.index(True)]
    for t in range(first, last + 1):
      if near[t] in consts.CROSSINGS:
        command = near[t]
      turns[t] = command
  return turns
