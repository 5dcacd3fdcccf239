"""The scenarios: seeded scenes with a name from Bench2Drive's type list.

A scene holds a town, a route, everybody in it and the scripts that move them.
Each builder draws from one numpy Generator; `seed` also cycles the variants
(left, right, ...) so that every few seeds hold all of them.
"""

import dataclasses
import difflib
import zlib

from highway_env.road import road as roads
import numpy as np

from data_pipeline import errors
from data_pipeline.miniworld import actors
from data_pipeline.miniworld import junction
from data_pipeline.miniworld import scenery
from data_pipeline.miniworld import town as towns


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


def build(kind, seed):
  """The Scene of a scenario type and a seed.

  Raises:
    ConfigError: unknown type, with the nearest one.
  """
  check(kind)
  rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
  return SCENARIOS[kind](kind, seed, rng)


def check(kind):
  """Refuses a scenario name that does not exist."""
  if kind not in SCENARIOS:
    near = difflib.get_close_matches(kind, SCENARIOS, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(SCENARIOS)}"
    raise errors.ConfigError(f"unknown scenario {kind!r}; {hint}")


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


STREET = 150.0  # length of the straight streets [m]


def _street(kind, rng, town_id, own, opposing, drive):
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


def parked_obstacle(kind, seed, rng):
  """A car stands in the ego's lane; the lane to the left leads around it."""
  del seed
  opposing = kind.endswith("TwoWays")
  own = 1 if opposing else 2
  place = float(rng.uniform(24, 44))
  scene, kerbs = _street(kind, rng, 92 if opposing else 91, own,
                         1 if opposing else int(rng.integers(1, 3)),
                         place + 42.0)
  for kerb, yaw in zip(kerbs, (np.pi, 0.0)):
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, yaw))
  position = scene.route.point(place, float(rng.uniform(-0.1, 0.5)))
  scene.trigger = actors.vehicle(rng, position, float(rng.normal(0, 0.03)),
                                 hazard=True)
  scene.add(scene.trigger)
  scene.bypass = "opposing" if opposing else "same"
  if opposing:
    x = float(scene.route.xy[0, 0]) + float(rng.uniform(25, 60))
    for _ in range(_few(rng)):
      scene.add_traffic(rng, ("c", "d", 0), STREET - x,
                        float(rng.uniform(4.5, 7)),
                        float(rng.uniform(5, 7)))
      x += float(rng.uniform(12, 40))
  else:
    x = float(scene.route.xy[0, 0]) - float(rng.uniform(4, 25))
    for _ in range(_few(rng)):
      scene.add_traffic(rng, ("a", "b", 0), x, float(rng.uniform(6, 9)),
                        float(rng.uniform(6.5, 9.5)))
      x -= float(rng.uniform(9, 22))
  return scene


def _few(rng):
  """None, one or two cars."""
  return int(rng.choice([0, 1, 1, 2]))


class Crossing:
  """A walker who steps out when the ego is near, and crosses the road."""

  def __init__(self, walker, place, lead, speed, distance):
    """Args: place on the route [m], lead before arrival [s], speed [m/s],
    distance to walk [m]."""
    self._walker, self._place, self._lead = walker, place, lead
    self._speed, self._left, self._walks = speed, distance, False

  def update(self, world, dt):
    gap = self._place - world.progress
    self._walks |= gap < max(self._lead * world.ego.speed, 7.0)
    step = self._speed * dt * self._walker.heading
    reach = self._walker.position + self._walker.heading * 0.7
    blocked = world.ego_covers(reach)  # nobody walks into a car's flank
    moves = self._walks and self._left > 0 and not blocked
    self._walker.speed = self._speed if moves else 0.0
    if moves:
      self._left -= self._speed * dt
      self._walker.position = self._walker.position + step


def dynamic_object_crossing(kind, seed, rng):
  """A walker hidden by a parked car steps out; one seed in five stays put."""
  own = int(rng.integers(1, 3))
  opposing = int(rng.integers(1, 3))
  place = float(rng.uniform(20, 44))
  scene, kerbs = _street(kind, rng, 93, own, opposing, place + 26.0)
  x = float(scene.route.point(place)[0])
  side = -1 if own == opposing == 1 and rng.random() < 0.3 else 1
  along = x + 30.0  # kerb metres: kerbs start 30 m before the street
  for kerb, yaw, sign in zip(kerbs, (np.pi, 0.0), (-1, 1)):
    here = [(along - 8.0, along + 1.0)] if sign == side else []
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, yaw, here))
  kerb = kerbs[0] if side < 0 else kerbs[1]
  type_id = str(rng.choice(["vehicle.mercedes.sprinter",
                            "vehicle.nissan.patrol", "vehicle.tesla.model3"]))
  length = actors.VEHICLES[type_id][0][0]
  scene.add(actors.vehicle(
      rng, kerb.point(along - length - 0.7, -towns.PARKING / 2),
      np.pi if side < 0 else 0.0, type_id=type_id, state="static"))
  person = actors.walker(rng, kerb.point(along, -0.8), -side * np.pi / 2)
  scene.add(person)
  if seed % 5 != 4:
    scene.trigger = person
    width = kerbs[1].start[1] - kerbs[0].start[1]
    speed = float(rng.uniform(1.5, 2.5))
    first = abs(scene.route.project(person.position)[1]) - 1.4
    scene.scripts.append(Crossing(
        person, place, first / speed + float(rng.uniform(0.5, 1.3)), speed,
        width + 1.0))
  return scene


def _radii(rng, box):
  """Turn radii (right, left) that fit a junction box."""
  room = min(box)
  return (float(rng.uniform(6.5, min(9.5, room - 2.0))),
          float(rng.uniform(8.5, room + 0.8)))


def _junction(kind, rng, town_id, arms, move, others):
  """A junction scene; `others` are movements of other cars."""
  box = (float(rng.uniform(9.5, 14.0)), float(rng.uniform(9.5, 14.0)))
  right, left = _radii(rng, box)
  corners = {pair: float(rng.uniform(3.2, min(box) - 4.0))
             for pair in junction.CORNERS}
  corners["W", "S"] = right - towns.LANE / 2
  spec = junction.Junction(arms, box, (70.0, 60.0), corners, left,
                           bool(rng.random() < 0.6), bool(rng.random() < 0.7))
  radius = {towns.LEFT: left, towns.RIGHT: right, towns.STRAIGHT: None}
  moves = {m: radius[junction.turn_of(*m)] for m in {move, *others}}
  town, paths = junction.build(spec, moves)
  approach = float(rng.uniform(16, 36))
  route = towns.route(town, paths[move], 70.0 - approach,
                      float(rng.uniform(15, 22)))
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
  scene, _, paths = _junction(kind, rng, 94, arms, ("W", side), ())
  _lead_car(scene, rng, paths["W", side])
  return scene


def green_light(kind, seed, rng):
  """Four arms and a green light: left, right and straight in turn."""
  end = ("N", "S", "E")[seed % 3]
  scene, spec, paths = _junction(kind, rng, 95, ("W", "E", "N", "S"),
                                 ("W", end), [("E", "W"), ("W", "E")])
  # IDM cars do not give way, so a lead car never turns across the traffic.
  _lead_car(scene, rng, paths["W", "E" if end == "N" else end])
  for arm in spec.arms:
    out = np.array(junction.ARMS[arm])
    right, yaw = towns.right_of(-out), float(np.arctan2(-out[1], -out[0]))
    stop = out * (spec.size(arm) + junction.STOP_LINE + 0.2)
    trigger = (stop + right * towns.LANE / 2 + out * 1.0,
               np.array([1.2, towns.LANE / 2]))
    scene.add(actors.traffic_light(
        stop + right * (towns.LANE + 1.2), yaw, 2 if arm in "WE" else 0,
        towns.LANE / 2 + 1.2, trigger))
    if arm in "NS" and rng.random() < 0.6:
      scene.add(actors.vehicle(rng, stop + right * towns.LANE / 2 + out * 3.2,
                               yaw))
  _oncoming(scene, rng, paths["E", "W"], end)
  return scene


def _oncoming(scene, rng, path, end):
  """Cars that come the other way; a left turn has to wait for them."""
  lane = scene.town.network.get_lane(path[0])
  along = lane.length - float(rng.uniform(0, 45))
  for _ in range(_few(rng)):
    scene.add_traffic(rng, path[0], max(along, 0.0),
                      float(rng.uniform(5, 7.5)), float(rng.uniform(6, 8)),
                      path)
    along -= float(rng.uniform(10, 30))
    if along < 0:
      break
  if end == "N":
    near = np.argmin(np.abs(scene.route.xy[:, 1] + towns.LANE / 2))
    scene.crossings.append((float(scene.route.s[near]),
                            scene.route.xy[near].copy()))


SCENARIOS = {
    "TJunction": t_junction,
    "VanillaSignalizedTurnEncounterGreenLight": green_light,
    "ParkedObstacle": parked_obstacle,
    "ParkedObstacleTwoWays": parked_obstacle,
    "DynamicObjectCrossing": dynamic_object_crossing,
}
