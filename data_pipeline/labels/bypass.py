"""Driving around an obstacle: out of the lane, alongside, back again.

Hindsight over the whole route is used: an obstacle is what stands until the
end, and the way back begins before the lane id tells of it.
"""

import dataclasses
import math

from data_pipeline.labels import constants as consts


@dataclasses.dataclass(frozen=True)
class Bypass:
  """Frames of one bypass; each `until` is the first frame after it.

  Attributes:
    start: an obstacle comes into sight. out_until: the new lane has held; or,
      if the car stays in its lane, the obstacle is passed.
    back_from, back_until: the way back, both None if there is none.
    until: the return is complete; without one the obstacle is passed, or in
      the opposing lane the route ends.
    side: of the way out, left if the car stays in its lane.
    opposing: the way out leads over the middle of the road.
  """

  start: int
  out_until: int
  back_from: int | None
  back_until: int | None
  until: int
  side: str
  opposing: bool


def find(signals, c):
  """Returns the route's bypasses in order; () for other scenario types."""
  if signals.kind not in consts.OVERTAKING:
    return ()
  found, t = [], c.spawn_frames
  while t < len(signals):
    if obstacles(signals, t, c):
      found.append(_follow(signals, t, c))
      t = found[-1].until
    else:
      t += 1
  return tuple(found)


def obstacles(signals, t, c):
  """The boxes to drive around at frame t, nearest first."""
  box_kind, is_obstacle = OBSTACLES[_family(signals.kind)]
  return [box for box in signals.actors(t, c, box_kind)
          if box.distance < signals.horizon(t, c) and box.x > c.ahead
          and is_obstacle(box, signals, t, c)]


def visible(box, c):
  """Has the lidar seen enough of a vehicle, bicycle or walker?"""
  if box.kind == "walker":
    least = c.points_walker
  else:
    least = c.points_bicycle if box.is_bicycle else c.points_vehicle
  return box.record.number("num_points") >= least


def _family(kind):
  return kind.removesuffix("TwoWays")


def _stopped(box, signals, c):
  """Does it stand, and go on standing? A queue at a light moves again."""
  return (abs(box.record.number("speed")) <= c.stopped_speed
          and signals.drift(box.id) <= c.parked_drift)


def _accident(box, signals, t, c):
  return ("police" in box.type_id and visible(box, c)
          and _stopped(box, signals, c))


def _parked(box, signals, t, c):
  return (abs(box.y) <= c.parked_y and visible(box, c)
          and _stopped(box, signals, c))


def _construction(box, signals, t, c):
  return box.type_id == "static.prop.trafficwarning" and box.x > 0.0


def _bicycle(box, signals, t, c):
  """A bicycle in the ego's lane or in the next one to the right."""
  if not (box.is_bicycle and visible(box, c)):
    return False
  own, lane = signals.lanes[t], lane_of(box, signals.lanes[t])
  right = own[2] + int(math.copysign(1, own[2]))
  return lane[:2] == own[:2] and lane[2] in (own[2], right)


def _open_door(box, signals, t, c):
  return (box.type_id == "vehicle.mercedes.coupe_2020" and box.x > 0.0
          and abs(box.record.number("speed")) < c.stopped_speed)


OBSTACLES = {"Accident": ("vehicle", _accident),
             "ParkedObstacle": ("vehicle", _parked),
             "ConstructionObstacle": ("traffic_sign", _construction),
             "HazardAtSideLane": ("vehicle", _bicycle),
             "VehicleOpensDoor": ("vehicle", _open_door)}


def lane_of(box, own):
  """(road, section, lane) under a box; `own` is the ego's.

  Where a file tells no section of a vehicle, it is taken to be the ego's.
  """
  record = box.record
  section = (record.integer("section_id") if record.has("section_id")
             else own[1])
  return record.integer("road_id"), section, record.integer("lane_id")


def _offset(kind, c):
  return {"Accident": c.passed_accident, "HazardAtSideLane": c.passed_hazard,
          "ConstructionObstacle": c.passed_construction,
          }.get(_family(kind), c.passed_other)


def _follow(signals, start, c):
  """The Bypass of the obstacles that come into sight at frame `start`."""
  end, passed = len(signals), _passed(signals, start, c)
  out = next((change for change in signals.changes
              if start < change.frame <= passed), None)
  if out is None:
    return Bypass(start, passed, None, None, passed, consts.LEFT, False)
  out_until = min(out.frame + c.hold, end)
  back = _way_back(signals, out, signals.home(start, c), c)
  if back is None:
    # A lane of the same direction may be kept; the opposing one may not.
    until = end if out.opposing else max(passed, out_until)
    return Bypass(start, out_until, None, None, until, out.side, out.opposing)
  until = min(back + c.hold, end)
  back_from = min(max(back - c.return_window, out_until), until)
  return Bypass(start, out_until, back_from, until, until, out.side,
                out.opposing)


def _passed(signals, start, c):
  """First frame at which every obstacle seen since `start` lies behind."""
  box_kind, known = OBSTACLES[_family(signals.kind)][0], {}
  for t in range(start, len(signals)):
    known |= {box.id: box.world for box in obstacles(signals, t, c)}
    # What is annotated no more is where it was last.
    known |= {box.id: box.world for box in signals.actors(t, c, box_kind)
              if box.id in known}
    x = [signals.frames[t].place(world)[0] for world in known.values()]
    if max(x) < -_offset(signals.kind, c):
      return t
  return len(signals)


def _way_back(signals, out, home, c):
  """First frame of the first return to the home lane that holds, or None.

  Lane ids are counted anew where a road or section begins; there a change to
  the other side is the return.
  """
  lanes = signals.lanes
  returns = {x.frame for x in signals.changes
             if x.side != out.side and x.new[:2] != home[:2]}
  for t in range(out.frame, len(lanes) - c.hold + 1):
    if t in returns or all(lane == home for lane in lanes[t:t + c.hold]):
      return t
  return None
