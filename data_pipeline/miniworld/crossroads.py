"""Scenarios at a junction: turns, lights, a stop sign."""

import numpy as np

from data_pipeline.miniworld import actors, junction, scenery, scripts, shapes
from data_pipeline.miniworld import scene as scenes
from data_pipeline.miniworld import town as towns

MEETS = 1.0     # routes nearer than this conflict [m]
CLUSTER = 1.0   # heads of lights hang this far before a junction's middle [m]
STOP = "traffic.stop"


def _lead_car(scene, rng, path):
  """Now and then a car drives ahead on the ego's way."""
  if rng.random() < 0.3:
    lane = scene.town.network.get_lane(path[0])
    start, _ = lane.local_coordinates(scene.route.xy[0])
    along = start + float(rng.uniform(11, 18))
    if along < lane.length - 6:
      scene.add_traffic(rng, path[0], along, float(rng.uniform(4, 6)),
                        float(rng.uniform(4.5, 6.5)), path)


def t_junction(kind, seed, rng):
  """A T without lights: even seeds turn left, odd ones right."""
  side = "S" if seed % 2 else "N"
  arms = ("W", "N", "S") if rng.random() < 0.5 else ("W", "E", side)
  scene, _, paths = scenes.at_junction(kind, rng, 94, arms, ("W", side), ())
  _lead_car(scene, rng, paths["W", side])
  return scene


def green_light(kind, seed, rng):
  """Four arms and a green light: left, right and straight in turn."""
  end = ("N", "S", "E")[seed % 3]
  scene, spec, paths = scenes.at_junction(
      kind, rng, 95, ("W", "E", "N", "S"), ("W", end),
      [("E", "W"), ("W", "E")])
  # IDM cars do not give way, so a lead car never turns across the traffic.
  _lead_car(scene, rng, paths["W", "E" if end == "N" else end])
  for arm in spec.arms:
    stop, out, right, yaw = _stop_place(spec, arm)
    _light(scene, spec, arm, actors.GREEN if arm in "WE" else actors.RED)
    if arm in "NS" and rng.random() < 0.6:
      scene.add(actors.vehicle(rng, stop + right * towns.LANE / 2 + out * 3.2,
                               yaw))
  _oncoming(scene, rng, paths["E", "W"], end)
  return scene


def _oncoming(scene, rng, path, end):
  """Cars that come the other way; a left turn has to wait for them."""
  lane = scene.town.network.get_lane(path[0])
  along = lane.length - float(rng.uniform(0, 45))
  for _ in range(scenes.few(rng)):
    scene.add_traffic(rng, path[0], max(along, 0.0),
                      float(rng.uniform(5, 7.5)), float(rng.uniform(6, 8)),
                      path)
    along -= float(rng.uniform(10, 30))
    if along < 0:
      break
  if end == "N":
    near = np.argmin(np.abs(scene.route.xy[:, 1] + towns.LANE / 2)
                     + 100.0 * ~scene.route.junction)
    scene.crossings.append((float(scene.route.s[near]),
                            scene.route.xy[near].copy()))


def _light(scene, spec, arm, state):
  """Adds an arm's traffic light; returns its Actor."""
  stop, out, right, yaw = _stop_place(spec, arm)
  # The heads of all arms hang about the middle, each over its own lane.
  place = (towns.LANE / 2 + 1.2,
           spec.size(arm) + junction.STOP_LINE - CLUSTER)
  light = actors.traffic_light(stop + right * (towns.LANE + 1.2), yaw, state,
                               place, _area(stop, out, right))
  scene.add(light)
  return light


def _area(stop, out, right):
  """(centre, half sizes) of the area before a line, see Actor.trigger."""
  return (stop + right * towns.LANE / 2 + out * 1.0,
          np.array([1.2, towns.LANE / 2]))


def _stop_place(spec, arm):
  """(beside the stop line's middle [2], unit vector of the arm, its right,
  yaw of who arrives)."""
  out = np.array(junction.ARMS[arm])
  stop = out * (spec.size(arm) + junction.STOP_LINE + 0.2)
  return stop, out, towns.right_of(-out), float(np.arctan2(-out[1], -out[0]))


def _line(scene, spec, actor):
  """The stop line of the ego's arm."""
  stop, out, right, _ = _stop_place(spec, "W")
  s, _ = scene.route.project(stop + out * 0.25 + right * towns.LANE / 2)
  scene.lines.append(scenes.Line(s, actor))
  return scene.lines[-1]


def _cross_traffic(scene, rng, paths, moves, count, gap):
  """Cars that cross, and the points at which the ego has to let them."""
  lanes = scene.town.network
  for move in moves:
    line = np.concatenate([lanes.get_lane(index).path.xy
                           for index in paths[move]])
    near = np.hypot(*np.moveaxis(
        scene.route.xy[:, None] - line[::2], -1, 0)).min(1)
    meets = np.flatnonzero(near < MEETS)
    if len(meets):
      scene.crossings.append((float(scene.route.s[meets[0]]),
                              scene.route.xy[meets[0]].copy()))
    along = (lanes.get_lane(paths[move][0]).length
             - float(rng.uniform(*gap)) / 2)
    for _ in range(count(rng)):
      scene.add_traffic(rng, paths[move][0], along,
                        float(rng.uniform(5, 7)), float(rng.uniform(6, 8)),
                        paths[move])
      along -= float(rng.uniform(*gap))


def red_light(kind, seed, rng):
  """Four arms and a red light that turns green while one waits."""
  end = ("E", "S", "N")[seed % 3]
  moves = [("N", "S"), ("S", "N")]
  scene, spec, paths = scenes.at_junction(
      kind, rng, 98, ("W", "E", "N", "S"), ("W", end), moves, scenery.SKIES)
  lights = {arm: _light(scene, spec, arm,
                        actors.RED if arm in "WE" else actors.GREEN)
            for arm in spec.arms}
  line = _line(scene, spec, lights["W"])
  scene.scripts.append(scripts.Signal(
      [lights["W"], lights["E"]], [lights["N"], lights["S"]], line.s,
      float(rng.uniform(4.0, 7.0))))
  _cross_traffic(scene, rng, paths, moves, scenes.few, (14, 26))
  return scene


def stop_sign(kind, seed, rng):
  """A stop sign before a street with traffic."""
  end = ("E", "S", "N")[seed % 3]
  moves = [("N", "S"), ("S", "N")]
  scene, spec, paths = scenes.at_junction(
      kind, rng, 99, ("W", "E", "N", "S"), ("W", end), moves, scenery.SKIES)
  stop, out, right, yaw = _stop_place(spec, "W")
  sign = actors.prop(STOP, (0.15, 0.62, 1.5), shapes.stop_sign(),
                     stop + right * (towns.LANE + 1.0), yaw,
                     _area(stop, out, right))
  scene.add(sign)
  _line(scene, spec, sign)
  scene.patience = 1.6
  _cross_traffic(scene, rng, paths, moves, _some, (16, 30))
  return scene


def _some(rng):
  return int(rng.integers(1, 4))
