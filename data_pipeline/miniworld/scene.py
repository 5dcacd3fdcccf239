"""What an episode starts from: a scene, on a street or at a junction.

A scene holds a town, a route, everybody in it and the scripts that move them.
The functions here furnish a place; scenarios.py lets something happen there.
"""

import dataclasses

import numpy as np
from highway_env.road import road as roads

from data_pipeline.miniworld import actors, junction, scenery
from data_pipeline.miniworld import town as towns

STREET = 150.0  # length of the straight streets [m]


@dataclasses.dataclass
class Scene:
  """All that an episode starts from.

  Attributes:
    kind: scenario type. town_id, weather: numbers for the route's name.
    town, road: lanes and the highway-env Road with its traffic.
    route: what to drive. speed: ego's speed at the start [m/s].
    cruise: the speed that its driver likes [m/s].
    actors: everybody but the ego. scripts: objects with update(world, dt).
    look, soil, tint: see render.Look and ground.Ground.
    trigger: the actor that the scenario is about, or None.
    bypass: "same" or "opposing": the lane that leads around the trigger.
    crossings: (s on the route, conflict point [2], radius) to yield at.
  """

  kind: str
  town_id: int
  weather: int
  town: towns.Town
  road: roads.Road
  route: towns.Route
  speed: float
  cruise: float
  look: object
  soil: tuple
  tint: tuple
  actors: list = dataclasses.field(default_factory=list)
  scripts: list = dataclasses.field(default_factory=list)
  trigger: object = None
  bypass: str = None
  crossings: list = dataclasses.field(default_factory=list)

  def add(self, *new):
    self.actors.extend(new)

  def add_traffic(self, rng, lane_index, along, speed, target, path=None):
    """Puts an IDM car on a lane; returns its Actor."""
    type_id = str(rng.choice(sorted(actors.VEHICLES)))
    body = actors.TrafficCar(self.road, lane_index, along, speed, target,
                             actors.VEHICLES[type_id][0],
                             list(path) if path else None)
    self.road.vehicles.append(body)
    actor = actors.vehicle(rng, body.position, body.heading, type_id=type_id,
                           body=body)
    actor.follow_body()
    self.add(actor)
    return actor


def _scene(kind, rng, town_id, town, route):
  look, weather = scenery.look(rng)
  cruise = float(rng.uniform(5.5, 8.5))
  road = roads.Road(town.network, np_random=rng,
                    neighbour_vehicles_connected_lanes=True)
  return Scene(kind, town_id, weather, town, road, route,
               speed=float(rng.uniform(3.0, 8.0)), cruise=cruise, look=look,
               soil=tuple(int(c) for c in rng.integers((80, 96, 60),
                                                       (150, 150, 120))),
               tint=tuple([float(rng.uniform(-22, 18))] * 3))


def street(kind, rng, town_id, own, opposing, drive):
  """A straight street, ego on its rightmost lane for `drive` metres."""
  town = towns.street(STREET, own, opposing)
  start = float(rng.uniform(2, 8))
  route = towns.route(town, [("a", "b", own - 1)], start, start + drive)
  scene = _scene(kind, rng, town_id, town, route)
  left = -opposing * towns.LANE - towns.PARKING
  right = own * towns.LANE + towns.PARKING
  kerbs = (scenery.Kerb((-30.0, left), 0.0, -1, STREET + 60),
           scenery.Kerb((-30.0, right), 0.0, 1, STREET + 60))
  for kerb in kerbs:
    scene.add(*scenery.houses(rng, kerb, towns.PAVEMENT))
    scene.add(*scenery.trees(rng, kerb, 0.7))
    people, scripts = scenery.strollers(rng, kerb, int(rng.integers(1, 6)))
    scene.add(*people)
    scene.scripts.extend(scripts)
  return scene, kerbs


def _radii(rng, box):
  """Turn radii (right, left) that fit a junction box."""
  room = min(box)
  return (float(rng.uniform(6.5, min(9.5, room - 2.0))),
          float(rng.uniform(8.5, room + 0.8)))


def at_junction(kind, rng, town_id, arms, move, others):
  """A junction scene; `others` are movements of other cars."""
  box = (float(rng.uniform(9.5, 14.0)), float(rng.uniform(9.5, 14.0)))
  right, left = _radii(rng, box)
  corners = {pair: float(rng.uniform(3.2, min(box) - 4.0))
             for pair in junction.CORNERS}
  corners["W", "S"] = right - towns.LANE / 2
  spec = junction.Junction(arms, box, (70.0, 60.0), corners,
                           bool(rng.random() < 0.6), bool(rng.random() < 0.7))
  radius = {towns.LEFT: left, towns.RIGHT: right, towns.STRAIGHT: None}
  moves = {m: radius[junction.turn_of(*m)] for m in {move, *others}}
  town, paths = junction.build(spec, moves)
  approach = float(rng.uniform(12, 30))
  route = towns.route(town, paths[move], 70.0 - approach,
                      float(rng.uniform(12, 18)))
  scene = _scene(kind, rng, town_id, town, route)
  _line_arms(scene, rng, spec)
  return scene, spec, paths


def _line_arms(scene, rng, spec):
  """Houses, parked cars and people along the arms; a wall where none is."""
  wide = towns.LANE + (towns.PARKING if spec.parking else 0.0)
  for arm, out in junction.ARMS.items():
    out = np.array(out)
    yaw = float(np.arctan2(out[1], out[0]))
    right = towns.right_of(out)
    if arm not in spec.arms:
      edge = out * (towns.LANE + 0.2) - right * (spec.size("N" if arm in "WE"
                                                           else "E") + 30)
      kerb = scenery.Kerb(edge, yaw + np.pi / 2, -1,
                          2 * abs(np.dot(edge, right)))
      scene.add(*scenery.houses(rng, kerb, towns.PAVEMENT))
      continue
    near = spec.size(arm) + junction.PARKING_FROM
    for side in (-1, 1):
      kerb = scenery.Kerb(out * near + side * right * wide, yaw, side,
                          spec.length(arm))
      scene.add(*scenery.houses(rng, kerb, towns.PAVEMENT + 0.5))
      scene.add(*scenery.trees(rng, kerb, 0.7))
      if spec.parking:
        scene.add(*scenery.parked_row(rng, kerb, towns.PARKING,
                                      yaw + np.pi * (side < 0)))
      people, scripts = scenery.strollers(rng, kerb, int(rng.integers(0, 3)))
      scene.add(*people)
      scene.scripts.extend(scripts)
