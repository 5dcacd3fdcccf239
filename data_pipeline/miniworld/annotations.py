"""One frame of the world in the words of Bench2Drive's annotation files.

Angles of boxes are degrees in the order pitch, roll, yaw; extents are half
sizes; everything else is metres, seconds and radians in CARLA's axes.
"""

import numpy as np

from data_pipeline.miniworld import actors

EGO_ID = "1"
LIGHT_REACH = 50.0  # a light ahead on this much of the route affects the ego


def annotate(world, control, emergency):
  """The annotation dict of the world's present frame.

  Args:
    world: World. control: that the driver asks for; its car's pedals may know
      less. emergency: the driver brakes hard because of an actor.
  """
  state, scene = world.state(), world.scene
  x, y, near = state.near
  far_x, far_y, far = state.far
  return {
      "x": float(state.gnss[0]), "y": float(state.gnss[1]),
      "theta": state.compass, "speed": state.speed,
      "acceleration": state.acceleration.tolist(),
      "angular_velocity": state.angular_velocity.tolist(),
      "throttle": control.throttle, "steer": control.steer,
      "brake": control.brake, "reverse": False,
      "should_brake": int(control.brake > 0.0),
      "only_ap_brake": bool(emergency),
      "x_command_near": x, "y_command_near": y, "command_near": near,
      "x_command_far": far_x, "y_command_far": far_y, "command_far": far,
      "x_target": x, "y_target": y, "next_command": near,
      "weather": {"fog_density": 1e4 * scene.look.fog,
                  "brightness": scene.look.light},
      "bounding_boxes": [_ego(world, control)] + _others(world),
  }


def world_to_ego(position, heading):
  """4x4 matrix from the left-handed world to the ego frame."""
  cos, sin = np.cos(heading), np.sin(heading)
  matrix = np.eye(4)
  matrix[:2, :2] = [[cos, sin], [-sin, cos]]
  matrix[:2, 3] = -matrix[:2, :2] @ position
  return matrix


def _place(lane):
  return {"road_id": lane.road_id, "section_id": lane.section_id,
          "lane_id": lane.lane_id}


def _box(centre, extent, yaw):
  """Location (on the ground), centre, half sizes and rotation of a box."""
  x, y = (float(c) for c in centre)
  return {"location": [x, y, 0.0], "center": [x, y, float(extent[2])],
          "extent": [float(e) for e in extent],
          "rotation": [0.0, 0.0, float(np.degrees(
              np.arctan2(np.sin(yaw), np.cos(yaw))))]}


def _ego(world, control):
  state = world.state()
  return {
      "class": "ego_vehicle", "id": EGO_ID, "type_id": actors.EGO_TYPE,
      "base_type": "car", "state": "dynamic",
      **_box(state.position, actors.EGO_EXTENT, state.heading),
      **_place(world.lane()), "speed": state.speed, "brake": control.brake,
      "distance": 0.0, "num_points": -1,
      "world2ego": world_to_ego(state.position, state.heading).tolist()}


def _others(world):
  points, position = world.visible(), world.state().position
  affects = affecting(world)
  boxes = []
  for actor in world.scene.actors:
    if actor.id not in points:
      continue
    distance = float(np.hypot(*(actor.position - position)))
    box = {"class": actor.kind, "id": str(actor.id),
           "type_id": actor.type_id, "base_type": actor.base_type,
           **_box(actor.position, actor.extent, actor.yaw),
           "distance": distance, "num_points": points[actor.id]}
    if actor.trigger is not None:
      boxes.append(box | {"state": actor.state}
                   | _area(world, actor, any(actor is a for a in affects)))
    else:
      lane = world.lane_of(actor)
      # CARLA reports a walker's speed as 0; keep its files' meaning.
      speed = actor.speed if actor.kind == "vehicle" else 0.0
      box |= _place(lane) | {"state": actor.state, "speed": speed,
                             "color": list(actor.colour)}
      if actor.kind == "traffic_sign":
        box |= {"affects_ego": False,
                "trigger_volume_location": box["location"]}
      boxes.append(box)
  return boxes


def _area(world, actor, affects):
  """What a light or a stop sign says of the area before it."""
  centre, half = actor.trigger
  lane = world.lane_at(centre, actor.yaw)
  return {
      "affects_ego": affects,
      "trigger_volume_location": [float(centre[0]), float(centre[1]), 0.0],
      "trigger_volume_rotation": [0.0, 0.0, float(np.degrees(actor.yaw))],
      "trigger_volume_extent": [float(half[0]), float(half[1]), 1.0],
      **_place(lane)}


def affecting(world):
  """(light, stop sign): the nearest whose area lies on the next 50 m of the
  route, or None."""
  return tuple(_nearest(world, kind) for kind in (
      "traffic_light", "traffic_sign"))


def _nearest(world, kind):
  scene, best, nearest = world.scene, None, LIGHT_REACH
  for actor in scene.actors:
    if actor.kind != kind or actor.trigger is None:
      continue
    s, lateral = scene.route.project(actor.trigger[0])
    turn = actor.yaw - scene.route.heading[scene.route.index(s)]
    ahead = s - world.progress
    if abs(lateral) < 1.0 and np.cos(turn) > 0.9 and 0 <= ahead < nearest:
      best, nearest = actor, ahead
  return best
