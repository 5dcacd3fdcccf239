"""What an episode starts from: a scene, on a street or at a junction.

A scene holds a town, a route, everybody in it and the scripts that move them.
The functions here furnish a place; scenarios.py lets something happen there.
"""

import dataclasses

import numpy as np
from highway_env.road import road as roads

from data_pipeline.miniworld import actors, junction, paths, scenery
from data_pipeline.miniworld import town as towns

STREET = 150.0  # length of the straight streets [m]
AVENUE = 190.0  # and of those with traffic from behind [m]
BEHIND = 50.0   # room for it [m]
SLOT_INWARD = 0.12  # nearer, and traffic would wait for who leaves a slot [m]
ARM = 56.0      # length of the arms that the ego drives [m]
SIDE_ARM = 34.0  # length of the others [m]


@dataclasses.dataclass(frozen=True)
class Change:
  """The route's own way to another lane, or out of a parking slot.

  Attributes:
    start, length: metres of the route on which it moves over.
    across: how far to the right [m]. deadline: where the first lane ends.
  """

  start: float
  length: float
  across: float
  deadline: float

  def shift(self, s):
    """Metres to the right of the first lane at s metres of the route."""
    x = min(max((s - self.start) / self.length, 0.0), 1.0)
    return self.across * x * x * (3 - 2 * x)


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
  """A line to stop at.

  Attributes:
    s: metres of the route. actor: the light, or the stop sign.
  """

  s: float
  actor: actors.Actor

  @property
  def is_stop(self):
    return self.actor.kind == "traffic_sign"

  @property
  def is_open(self):
    return not self.is_stop and self.actor.state == actors.GREEN


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
    finish: metres of the route after which the episode ends; the plan goes
      on, so that its next node does not give the road away.
    triggers: the actors that the scenario is about.
    bypass: "same" or "opposing": the lane that leads around a trigger;
      bypass_side: -1 where it is to the left, 1 to the right.
    change: the route's lane change. makes_way_for: an emergency vehicle.
    brakes_for: a car ahead that may stop dead.
    lines: where to stop. crossings: (s on the route, conflict point [2]) to
      yield at, patience: with so many seconds to spare.
  """

  kind: str
  town_id: int
  weather: int
  town: towns.Town
  road: roads.Road
  route: towns.Route
  finish: float
  speed: float
  cruise: float
  look: object
  soil: tuple
  tint: tuple
  actors: list = dataclasses.field(default_factory=list)
  scripts: list = dataclasses.field(default_factory=list)
  triggers: list = dataclasses.field(default_factory=list)
  bypass: str | None = None
  bypass_side: int = -1
  change: Change | None = None
  makes_way_for: object = None
  brakes_for: object = None
  lines: list = dataclasses.field(default_factory=list)
  crossings: list = dataclasses.field(default_factory=list)
  patience: float = 0.8

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


def _scene(kind, rng, town_id, town, route, finish, skies):
  look, weather = scenery.look(rng, skies)
  cruise = float(rng.uniform(6.5, 10.0))
  road = roads.Road(town.network, np_random=rng,
                    neighbour_vehicles_connected_lanes=True)
  return Scene(kind, town_id, weather, town, road, route, finish,
               speed=float(rng.uniform(3.0, 8.0)), cruise=cruise, look=look,
               soil=tuple(int(c) for c in rng.integers((84, 104, 62),
                                                       (128, 140, 96))),
               tint=tuple([float(rng.uniform(-14, 10))] * 3))


def few(rng):
  """None, one or two cars."""
  return int(rng.choice([0, 0, 1, 1, 2]))


def street(kind, rng, town_id, own, opposing, drive):
  """A straight street, ego on its rightmost lane for `drive` metres."""
  town = towns.street(STREET, own, opposing)
  route = towns.route(town, [("a", "b", own - 1)], float(rng.uniform(2, 8)))
  scene = _scene(kind, rng, town_id, town, route, drive, scenery.FAIR)
  return scene, _line_street(scene, rng, own, opposing, STREET)


def avenue(kind, rng, town_id, own, opposing, drive, path):
  """A straight street with room for traffic behind the ego.

  Args:
    path: (own lane that the ego starts on, Change or None); -1 is the parking
      strip. drive: metres.
  """
  lane, change = path
  town = towns.street(AVENUE, own, opposing)
  start = BEHIND + float(rng.uniform(0, 6))
  if lane < 0:
    offset = own * towns.LANE + towns.PARKING / 2 - SLOT_INWARD
  else:
    offset = (lane + 0.5) * towns.LANE
  route = towns.line_route(town, start, offset, change)
  scene = _scene(kind, rng, town_id, town, route, drive, scenery.SKIES)
  scene.change = change
  return scene, _line_street(scene, rng, own, opposing, AVENUE)


def _line_street(scene, rng, own, opposing, length):
  """Houses, trees and people along a street; returns its two kerbs."""
  middle = paths.trace((-30.0, 0.0), 0.0, [(length + 60.0, 0.0)])
  kerbs = (scenery.Kerb(middle, -opposing * towns.LANE - towns.PARKING, -1),
           scenery.Kerb(middle, own * towns.LANE + towns.PARKING, 1))
  for kerb in kerbs:
    scene.add(*scenery.houses(rng, kerb, towns.PAVEMENT))
    scene.add(*scenery.trees(rng, kerb, 0.7))
    people, scripts = scenery.strollers(rng, kerb, int(rng.integers(1, 6)))
    scene.add(*people)
    scene.scripts.extend(scripts)
  return kerbs


def at_junction(kind, rng, town_id, arms, move, others, skies=scenery.FAIR):
  """A junction scene; `others` are movements of other cars."""
  box = (float(rng.uniform(9.5, 17.0)), float(rng.uniform(9.5, 17.0)))
  room = min(box)
  radius = {towns.RIGHT: float(rng.uniform(6.0, min(room - 2.0, 12.0))),
            towns.LEFT: float(rng.uniform(8.5, min(room + 0.8, 15.0))),
            towns.STRAIGHT: None}
  corners = {pair: float(rng.uniform(3.2, room - 4.0))
             for pair in junction.CORNERS}
  corners["W", "S"] = radius[towns.RIGHT] - towns.LANE / 2
  spec = junction.Junction(
      {arm: [(10.0, 0.0), *paths.winding(rng, (
          ARM if arm in move else SIDE_ARM) - 10.0)] for arm in arms},
      box, corners, bool(rng.random() < 0.6), bool(rng.random() < 0.7))
  moves = {m: radius[junction.turn_of(*m)] for m in {move, *others}}
  town, lanes = junction.build(spec, moves)
  approach = float(rng.uniform(12, 42))  # episodes see one arm or the other
  route = towns.route(town, lanes[move], ARM - approach)
  scene = _scene(kind, rng, town_id, town, route,
                 route.length - ARM + 54.0 - approach, skies)
  _line_arms(scene, rng, spec)
  return scene, spec, lanes


def _line_arms(scene, rng, spec):
  """Houses, parked cars and people along the arms."""
  wide = towns.LANE + (towns.PARKING if spec.parking else 0.0)
  middles = [spec.middle(arm) for arm in spec.arms]
  for middle in middles:
    for side in (-1, 1):
      kerb = scenery.Kerb(middle, side * wide, side, junction.PARKING_FROM)
      lining = [*scenery.houses(rng, kerb, towns.PAVEMENT + 0.5),
                *scenery.trees(rng, kerb, 0.7)]
      scene.add(*scenery.clear_of(lining, middles, wide + 0.3))
      if spec.parking:
        row = scenery.parked_row(rng, kerb, towns.PARKING, side < 0)
        lane = middle.shifted(side * towns.LANE / 2)
        scene.add(*scenery.clear_of(row, [lane], towns.LANE / 2 + 0.5))
      people, scripts = scenery.strollers(rng, kerb, int(rng.integers(0, 3)),
                                          walking=0.0)
      scene.add(*people)
      scene.scripts.extend(scripts)
  for arm in sorted(junction.ARMS.keys() - spec.arms.keys()):
    _close_side(scene, rng, spec, arm, middles, wide)


def _close_side(scene, rng, spec, arm, middles, wide):
  """Houses where a T has no arm."""
  out = np.array(junction.ARMS[arm])
  across = max(spec.box) + 20.0
  edge = paths.trace(
      out * towns.LANE - towns.right_of(out) * across,
      float(np.arctan2(*towns.right_of(out)[::-1])), [(2 * across, 0.0)])
  lining = scenery.houses(rng, scenery.Kerb(edge, 0.0, -1),
                          towns.PAVEMENT + 0.5)
  scene.add(*scenery.clear_of(lining, middles, wide + 0.3))
