"""Hand-made drives for the label rules: raw annotations, frame by frame.

Boxes are placed in the ego frame (x forward, y right), which is where the
rules look at them; `moment` moves them into the world.
"""

import math

from data_pipeline.labels import annotations, generate, opendrive, signals
from data_pipeline.labels import constants as consts

OWN, LEFT_LANE, OPPOSING = (1, 0, -2), (1, 0, -1), (1, 0, 1)
CONE = "static.prop.constructioncone"
WARNING = "static.prop.trafficwarning"
POLICE = "vehicle.dodge.charger_police_2020"
DOOR = "vehicle.mercedes.coupe_2020"


def moment(x=0.0, y=0.0, *, yaw=0.3, lane=OWN, speed=6.0, near=4, far=4,
           near_at=5.0, far_at=50.0, brake=0.0, only_ap_brake=False, boxes=()):
  """The raw annotation of one frame.

  Args:
    x, y: of the ego, along and right of a line that leads where `yaw` points.
    near_at, far_at: metres ahead of the ego's planners' nodes.
    boxes: what car, walker, light and sign return.
  """
  cos, sin = math.cos(yaw), math.sin(yaw)
  to_world = lambda a, b: (cos * a - sin * b, sin * a + cos * b)
  ego = to_world(x, y)
  around = lambda a, b: [p + q for p, q in zip(ego, to_world(a, b))]
  road, section, lane_id = lane
  return {
      "speed": speed, "brake": brake, "only_ap_brake": only_ap_brake,
      "command_near": near, "command_far": far,
      "x_command_near": around(near_at, 0)[0],
      "y_command_near": around(near_at, 0)[1],
      "x_command_far": around(far_at, 0)[0],
      "y_command_far": around(far_at, 0)[1],
      "bounding_boxes": [{
          "class": "ego_vehicle", "id": "1", "location": [*ego, 0.0],
          "speed": speed, "road_id": road, "section_id": section,
          "lane_id": lane_id,
          "world2ego": [[cos, sin, 0.0, -cos * ego[0] - sin * ego[1]],
                        [-sin, cos, 0.0, sin * ego[0] - cos * ego[1]],
                        [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
      }] + [_placed(box, around, yaw) for box in boxes]}


def _placed(box, around, yaw):
  box = dict(box)
  box["location"] = [*around(*box.pop("at")), 0.0]
  if "turned" in box:
    box["rotation"] = [0.0, 0.0, math.degrees(yaw + box.pop("turned"))]
  if "area_at" in box:
    box["trigger_volume_location"] = [*around(*box.pop("area_at")), 0.0]
  return box


def car(x, y=0.0, *, id=7, speed=0.0, points=90, turned=0.0, lane=(1, 0, -1),
        type_id="vehicle.audi.a2", base_type="car", state="dynamic", **more):
  return {"class": "vehicle", "at": (x, y), "id": str(id), "speed": speed,
          "num_points": points, "turned": turned, "type_id": type_id,
          "base_type": base_type, "state": state, "road_id": lane[0],
          "section_id": lane[1], "lane_id": lane[2], **more}


def bicycle(x, y=0.0, *, points=10, lane=OWN, **more):
  return car(x, y, points=points, lane=lane, base_type="bicycle",
             type_id="vehicle.bh.crossbike", **more)


def walker(x, y=0.0, *, points=5, id=9):
  """A walker as recorded: it never has a speed."""
  return {"class": "walker", "at": (x, y), "id": str(id), "speed": 0.0,
          "type_id": "walker.pedestrian.0001", "num_points": points}


def light(distance, affects=True):
  return {"class": "traffic_light", "at": (distance, 4.0), "id": "30",
          "type_id": "traffic.traffic_light", "state": 0,
          "affects_ego": affects, "distance": distance}


def sign(x, y=0.0, *, type_id, affects=False, id=40, area_at=(500.0, 0.0)):
  return {"class": "traffic_sign", "at": (x, y), "id": str(id),
          "type_id": type_id, "affects_ego": affects,
          "distance": math.hypot(x, y), "area_at": area_at}


def parse(moments):
  return [annotations.parse_frame(f"{t:05d}.json.gz", values)
          for t, values in enumerate(moments)]


def read(kind, moments, road_map=None, c=consts.DEFAULTS):
  """Signals of a drive."""
  return signals.read(kind, parse(moments), c, road_map)


def label(kind, moments, road_map=None, c=consts.DEFAULTS):
  """rules.Labels of a drive."""
  return generate.label_frames(kind, parse(moments), c, road_map)


def cameras(kind, moments, road_map=None, c=consts.DEFAULTS):
  """runs of a drive's camera labels."""
  return runs(label(kind, moments, road_map, c).camera)


def skills(kind, moments, road_map=None, c=consts.DEFAULTS):
  """runs of a drive's skill labels."""
  return runs(label(kind, moments, road_map, c).skill)


def constant(kind, frames=20, road_map=None, **always):
  """runs of the camera labels of a drive that never changes."""
  return cameras(kind, [moment(**always)] * frames, road_map)


def bypass(kind, out=LEFT_LANE, *, box=None, frames=90, leaves=30,
           returns=60):
  """Moments at a metre a frame; the obstacle stands at 40.25 m."""
  box = box or (lambda x: car(x))
  lanes = [out if leaves <= t < returns else OWN
           for t in range(frames)]
  return [moment(float(t), lane=lane, boxes=[box(40.25 - t)])
          for t, lane in enumerate(lanes)]


def runs(values):
  """[(value, first, last)] of the stretches that are not the default."""
  found = []
  for t, value in enumerate(values):
    if value in ("NULL", "NORMAL"):
      continue
    if found and found[-1][0] == value and found[-1][2] == t - 1:
      found[-1][2] = t
    else:
      found.append([value, t, t])
  return [tuple(run) for run in found]


def spot(*, junction=False, ahead=False, parking=False,
         sides=("LEFT", "RIGHT")):
  """What a map says of the ego's place."""
  return opendrive.Spot(junction, ahead, parking, frozenset(sides))


class Map:
  """A stand-in for opendrive.RoadMap: `spots` in the order of the frames."""

  def __init__(self, spots):
    self._spots = iter(spots)

  def spot(self, location):
    return next(self._spots)
