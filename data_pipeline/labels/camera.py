"""The camera rules: which side or rear view a frame needs, if any.

Each takes (Signals, labels of earlier rules by id, Constants) and gives a
label or None for every frame; rules.py orders them and says when they hold.
Axes: N frames.
"""

import math

from data_pipeline.labels import bypass as bypasses
from data_pipeline.labels import constants as consts
from data_pipeline.labels.constants import LEFT, RIGHT
from data_pipeline.labels.signals import each, fill, nothing

OTHER = {LEFT: RIGHT, RIGHT: LEFT}
EMERGENCY_TYPES = ("police", "ambulance", "firetruck")
SIDE_EPSILON = 1e-3  # [m]; an object this near to the axis is on the left


def front(side):
  return f"CAM_FRONT_{side}"


def back(side):
  return f"CAM_BACK_{side}"


def side_of(y):
  """Side of an object at y metres to the right."""
  return RIGHT if y >= SIDE_EPSILON else LEFT


def junction_turn(signals, hits, c):
  return [front(consts.SIDE_OF_TURN[turn]) if turn in consts.SIDE_OF_TURN
          else None for turn in signals.turn]


def emergency_vehicle(signals, hits, c):
  if signals.kind != "YieldToEmergencyVehicle":
    return nothing(signals)

  def label(t):
    for box in signals.actors(t, c, "vehicle"):
      if (is_emergency(box, c) and bypasses.visible(box, c)
          and -c.emergency_behind < box.x < c.emergency_front):
        change = signals.change_from(t, c)
        if abs(box.y) > c.emergency_side:
          side = side_of(box.y)
        else:
          side = change.side if change else LEFT
        return (back if box.x < 0.0 else front)(side)
    return None

  return each(signals, label)


def is_emergency(box, c):
  """Is it a police car, an ambulance or a fire engine on its way?"""
  return (any(word in box.type_id for word in EMERGENCY_TYPES)
          and box.record.number("speed") > c.emergency_speed)


def parking_exit(signals, hits, c):
  if signals.kind not in consts.PARKING_EXIT:
    return nothing(signals)
  start, end = signals.frames[0], len(signals)
  y = [start.place(frame.location)[1] for frame in signals.frames]  # [N]
  out = next((t for t in range(end) if abs(y[t]) >= c.parking_side), end)
  side = back(side_of(y[out] if out < end else max(y, key=abs)))
  # Some maps draw the slot as part of the road: there the distance decides.
  if signals.spots and signals.spots[0].parking:
    out = next((t for t in range(end) if not signals.spots[t].parking), end)
  return [side] * out + [None] * (end - out)


def bypass(signals, hits, c):
  labels = nothing(signals)
  two_ways = signals.kind.endswith("TwoWays")
  for span in bypasses.find(signals, c):
    view = front if span.opposing or two_ways else back
    fill(labels, span.start, span.out_until, view(span.side))
    if span.back_from is not None:
      view = front if two_ways else back
      fill(labels, span.back_from, span.back_until, view(OTHER[span.side]))
  return labels


def invading_turn(signals, hits, c):
  labels = nothing(signals)
  if signals.kind != "InvadingTurn":
    return labels
  seen = [t for t in range(len(signals)) if any(
      box.type_id == "static.prop.constructioncone" and box.x >= c.cone_x
      and box.distance < signals.horizon(t, c)
      for box in signals.actors(t, c, "traffic_sign"))]
  if seen:
    fill(labels, seen[0], seen[-1] + 1, front(LEFT))
  return labels


def commanded_change(signals, hits, c):
  def label(t):
    side = consts.SIDE_OF_CHANGE.get(signals.command[t])
    if side is None or signals.spots and not signals.spots[t].drivable(side):
      return None
    return back(side)
  return each(signals, label)


def highway(signals, hits, c):
  if signals.kind not in consts.HIGHWAY:
    return nothing(signals)
  reached, side = _first_lane_change(signals, c)
  labels = [back(side)] * reached + [None] * (len(signals) - reached)
  turn = next((command for commands in (signals.near, signals.far)
               for command in commands if command in consts.SIDE_OF_TURN),
              None)
  if turn is not None:
    for t in range(reached, len(signals)):
      if signals.junction[t] or _junction_ahead(signals, t, c):
        labels[t] = front(consts.SIDE_OF_TURN[turn])
  return labels


def _first_lane_change(signals, c):
  """(first frame after it, side) of a highway route's first lane change.

  The side is that of the route's first command to change, or else of a change
  that is foreseen from the first frame; the change is the first one to that
  side, or, if there is none, ends with the command.
  """
  commands = [consts.SIDE_OF_CHANGE.get(command)
              for command in signals.command]
  t = next((t for t, side in enumerate(commands) if side), None)
  if t is None:
    change = signals.change_from(0, c)
    return (change.frame, change.side) if change else (0, LEFT)
  side = commands[t]
  change = next((x for x in signals.changes if x.side == side), None)
  if change:
    return change.frame, side
  while t < len(signals) and commands[t] == side:
    t += 1
  return t, side


def _junction_ahead(signals, t, c):
  if signals.spots:
    return signals.spots[t].junction_ahead
  return any(
      command in consts.CROSSINGS and gap <= c.junction_ahead
      for command, gap in ((signals.near[t], signals.near_gap[t]),
                           (signals.far[t], signals.far_gap[t])))


def cut_in(signals, hits, c):
  if signals.kind not in consts.CUT_IN:
    return nothing(signals)

  def label(t):
    box = converging(signals, t, c)
    if box is None:
      return None
    bearing = abs(math.degrees(math.atan2(box.y, box.x)))
    return (front if bearing < c.bearing else back)(side_of(box.y))

  return each(signals, label)


def converging(signals, t, c):
  """The nearest vehicle that moves towards the ego's line, or None.

  It converges if its heading leads it across by more than `meet_angle`, so
  that traffic along the road, either way, does not.
  """
  for box in signals.actors(t, c, "vehicle"):
    if not (box.distance < c.meet_distance and abs(box.y) <= c.meet_y
            and box.x > -c.meet_behind
            and abs(box.record.number("speed")) > c.stopped_speed):
      continue
    yaw = math.radians(box.record.vector("rotation")[2])
    across = math.sin(yaw - signals.frames[t].yaw)
    if (across * box.y < 0.0 and abs(across) > math.sin(c.meet_angle)
        and bypasses.lane_of(box, signals.lanes[t]) != signals.lanes[t]):
      return box
  return None


def no_camera(signals, hits, c):
  return [consts.NULL] * len(signals)
