"""Scenarios in which the ego has to brake hard."""

import numpy as np

from data_pipeline.miniworld import actors, scenery, scripts
from data_pipeline.miniworld import scene as scenes
from data_pipeline.miniworld import town as towns


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


def hard_brake(kind, seed, rng):
  """The car ahead brakes to a stop for no reason; on one seed in five not."""
  own = int(rng.integers(1, 3))
  place = float(rng.uniform(14, 32))
  scene, kerbs = scenes.avenue(kind, rng, 97, own, int(rng.integers(1, 3)),
                               place + 38.0, (own - 1, None))
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  ahead = float(rng.uniform(12, 16))
  lead = scene.add_traffic(rng, ("a", "b", own - 1),
                           float(scene.route.xy[0, 0]) + ahead, scene.speed,
                           scene.speed)
  scene.triggers.append(lead)
  scene.brakes_for = lead
  brakes = seed % 5 != 4
  scene.scripts.append(scripts.HardBrake(
      lead, place if brakes else np.inf, float(rng.uniform(2.0, 4.0)),
      float(rng.uniform(5.5, 7.5))))
  return scene
