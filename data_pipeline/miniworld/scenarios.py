"""The scenarios: seeded scenes with a name from Bench2Drive's type list.

Each builder draws from one numpy Generator; `seed` also cycles the variants
(left, right, ...) so that every few seeds hold all of them.
"""

import difflib
import zlib

import numpy as np

from data_pipeline import errors
from data_pipeline.miniworld import actors, junction, scenery, scripts
from data_pipeline.miniworld import scene as scenes
from data_pipeline.miniworld import town as towns


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
    hint = (f"did you mean {near[0]!r}?" if near
            else f"known: {sorted(SCENARIOS)}")
    raise errors.ConfigError(f"unknown scenario {kind!r}; {hint}")


def _few(rng):
  """None, one or two cars."""
  return int(rng.choice([0, 0, 1, 1, 2]))


def parked_obstacle(kind, seed, rng):
  """A car stands in the ego's lane; the lane to the left leads around it."""
  del seed
  opposing = kind.endswith("TwoWays")
  own = 1 if opposing else 2
  place = float(rng.uniform(18, 30))
  scene, kerbs = scenes.street(
      kind, rng, 92 if opposing else 91, own,
      1 if opposing else int(rng.integers(1, 3)), place + 25.0)
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  position = scene.route.point(place, float(rng.uniform(-0.2, 0.8)))
  obstacle = actors.vehicle(rng, position, float(rng.normal(0, 0.03)),
                            hazard=True)
  scene.add(obstacle)
  scene.triggers.append(obstacle)
  scene.bypass = "opposing" if opposing else "same"
  if opposing:
    x = float(scene.route.xy[0, 0]) + float(rng.uniform(15, 55))
    for _ in range(_few(rng)):
      scene.add_traffic(rng, ("c", "d", 0), scenes.STREET - x,
                        float(rng.uniform(5, 7.5)),
                        float(rng.uniform(5.5, 7.5)))
      x += float(rng.uniform(12, 24))
  else:
    x = float(scene.route.xy[0, 0]) - float(rng.uniform(4, 25))
    for _ in range(_few(rng)):
      scene.add_traffic(rng, ("a", "b", 0), x, float(rng.uniform(6, 9)),
                        float(rng.uniform(6.5, 9.5)))
      x -= float(rng.uniform(9, 22))
  return scene


def dynamic_object_crossing(kind, seed, rng):
  """A walker hidden by a parked car steps out; one seed in five stays put."""
  own, opposing = int(rng.integers(1, 3)), int(rng.integers(1, 3))
  place = float(rng.uniform(13, 30))
  scene, kerbs = scenes.street(kind, rng, 93, own, opposing, place + 13.0)
  # From the left only across a narrow road.
  left = own == opposing == 1 and rng.random() < 0.3
  kerb = kerbs[0] if left else kerbs[1]
  # Kerbs begin before the street: their metres differ from the route's.
  along = place + float(scene.route.xy[0, 0]) - float(kerb.point(0, 0)[0])
  for row in kerbs:
    free = [(along - 8.0, along + 1.0)] if row is kerb else []
    scene.add(*scenery.parked_row(rng, row, towns.PARKING, row.side < 0,
                                  free))
  person = _hidden_walker(scene, rng, kerb, along)
  if seed % 5 != 4:
    scene.triggers.append(person)
    speed = float(rng.uniform(1.4, 2.2))
    first = abs(scene.route.project(person.position)[1]) - 1.4
    scene.scripts.append(scripts.Crossing(
        person, place, first / speed + float(rng.uniform(0.75, 1.5)), speed,
        (own + opposing) * towns.LANE + 2 * towns.PARKING + 1.0))
  return scene


def _hidden_walker(scene, rng, kerb, along):
  """A person at the kerb, out of sight behind a parked car."""
  type_id = str(rng.choice(["vehicle.mercedes.sprinter",
                            "vehicle.mercedes.sprinter",
                            "vehicle.nissan.patrol", "vehicle.audi.a2"]))
  before = along - actors.VEHICLES[type_id][0][0] - 0.7
  person = actors.walker(rng, kerb.point(along, -0.8),
                         kerb.yaw(along) - kerb.side * np.pi / 2)
  scene.add(person, actors.vehicle(
      rng, kerb.point(before, -towns.PARKING / 2),
      kerb.yaw(before) + np.pi * (kerb.side < 0), type_id=type_id,
      state="static"))
  return person


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
    near = np.argmin(np.abs(scene.route.xy[:, 1] + towns.LANE / 2)
                     + 100.0 * ~scene.route.junction)
    scene.crossings.append((float(scene.route.s[near]),
                            scene.route.xy[near].copy()))


SCENARIOS = {
    "TJunction": t_junction,
    "VanillaSignalizedTurnEncounterGreenLight": green_light,
    "ParkedObstacle": parked_obstacle,
    "ParkedObstacleTwoWays": parked_obstacle,
    "DynamicObjectCrossing": dynamic_object_crossing,
}
