"""The skill rules: what kind of driving a frame shows.

Each takes (Signals, labels of earlier rules by id, Constants) and gives a
label or None for every frame; rules.py orders them and says when they hold.
Axes: N frames.
"""

from data_pipeline.labels import bypass as bypasses
from data_pipeline.labels import camera
from data_pipeline.labels import constants as consts
from data_pipeline.labels.signals import each, fill, nothing

STOP = "traffic.stop"


def leaves_parking(signals, hits, c):
  return ["PARKING_EXIT" if hit else None for hit in hits["C3"]]


def overtaking(signals, hits, c):
  labels = nothing(signals)
  for span in bypasses.find(signals, c):
    fill(labels, span.start, span.until, "OVERTAKING")
  return labels


def emergency_brake(signals, hits, c):
  labels = nothing(signals)
  if signals.kind not in consts.HAZARDS:
    return labels
  records = [frame.record for frame in signals.frames]
  brakes = [record.number("brake") > c.brake or bool(
      record.get("only_ap_brake")) for record in records]
  for t in range(len(signals)):
    window = brakes[max(t - c.brake_before, 0):t + c.brake_after + 1]
    if any(window) and _hazard(signals, t, c):
      fill(labels, t, min(t + c.brake_hold + 1, len(signals)),
           "EMERGENCY_BRAKE")
  return labels


def _hazard(signals, t, c):
  """Is there what this scenario type brakes for?"""
  horizon = signals.horizon(t, c)
  kind = consts.HAZARDS[signals.kind]
  if kind == "cut-in":
    return camera.converging(signals, t, c) is not None
  if kind == "priority":
    return any(camera.is_emergency(box, c) and box.distance < c.emergency_near
               for box in signals.actors(t, c, "vehicle"))
  if kind == "debris":
    return any("dirtdebris" in box.type_id and 0.0 < box.x < horizon
               for box in signals.actors(t, c, "traffic_sign"))
  return any(
      0.0 < box.x < horizon and abs(box.y) <= c.hazard_y
      and (box.kind == "vehicle" if kind == "vehicle"
           else box.kind == "walker" or box.is_bicycle)
      and bypasses.visible(box, c)
      for box in signals.actors(t, c, "vehicle", "walker"))


def give_way(signals, hits, c):
  label = consts.GIVE_WAY.get(signals.kind)
  return [label if label and any(hits[rule][t] for rule in ("C2", "C5", "C8"))
          else None for t in range(len(signals))]


def merging(signals, hits, c):
  if signals.kind not in consts.MERGING:
    return nothing(signals)

  def label(t):
    if signals.command[t] in consts.SIDE_OF_CHANGE or hits["C7"][t]:
      return "MERGING_HIGHWAY"
    near_turn = any(
        command in consts.SIDE_OF_TURN and gap < c.merge_node
        for command, gap in ((signals.near[t], signals.near_gap[t]),
                             (signals.far[t], signals.far_gap[t])))
    return ("MERGING_JUNCTION" if signals.junction[t] or near_turn
            else None)

  return each(signals, label)


def traffic_rule(signals, hits, c):
  def label(t):
    # Signs and lights stand from the start: no frame is too early for them.
    boxes = signals.frames[t].boxes
    if any(_stop_ahead(signals.frames[t], box, c) for box in boxes
           if box.kind == "traffic_sign" and box.type_id == STOP):
      return "TRAFFIC_SIGN"
    if not signals.junction[t] and any(
        _affects(box, c) for box in boxes if box.kind == "traffic_light"):
      return "TRAFFIC_LIGHT"
    return None
  return each(signals, label)


def _affects(box, c):
  # The box of a light may be another one's of the same crossing; its recorded
  # distance is that of the light itself.
  return (bool(box.record.get("affects_ego"))
          and box.record.number("distance") < c.sign_distance)


def _stop_ahead(frame, box, c):
  """A stop sign that counts: the flag, which goes to the nearest sign of any
  kind and so misses some, or its area in the ego's way."""
  if _affects(box, c):
    return True
  x, y = frame.place(box.record.vector("trigger_volume_location"))
  return -c.stop_behind < x < c.sign_distance and abs(y) <= c.stop_y


def normal(signals, hits, c):
  return [consts.NORMAL] * len(signals)
