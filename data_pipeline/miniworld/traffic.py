"""Scenarios of moving traffic: into it, across it, out of its way."""

from data_pipeline.miniworld import actors, scenery, scripts, shapes
from data_pipeline.miniworld import scene as scenes
from data_pipeline.miniworld import town as towns

OVER = 18.0      # metres that a route takes to change lanes
FULL_LANE = 26.0  # left of a lane that ends after the route has left it [m]
SLOT = 2.0       # metres in the slot before the wheels turn
OUT = 10.0       # metres on the way out of it
BARRIER = (0.35, 1.5, 0.55)


def merger(kind, seed, rng):
  """The ego's lane ends; slow traffic drives in the one to the left."""
  del seed
  own, opposing = int(rng.integers(2, 4)), int(rng.integers(1, 3))
  start = float(rng.uniform(14, 24))
  change = scenes.Change(start, OVER, -towns.LANE, start + FULL_LANE)
  scene, kerbs = scenes.avenue(kind, rng, 81, own, opposing,
                               start + OVER + 34.0, (own - 1, change))
  scene.add(*scenery.parked_row(rng, kerbs[0], towns.PARKING, True))
  x, y = scene.route.xy[0]
  scene.add(actors.prop("static.prop.streetbarrier", BARRIER,
                        shapes.barrier(BARRIER),
                        (x + change.deadline + 6.0, y), 0.0))
  pace = float(rng.uniform(2.8, 4.2))
  _queue(scene, rng, own - 2, x + float(rng.uniform(14, 22)), pace,
         int(rng.integers(3, 6)), (11, 20))
  return scene


def lane_change(kind, seed, rng):
  """The route changes lanes, to the left or right, beside other cars."""
  left = seed % 2 == 0
  own, opposing = int(rng.integers(2, 4)), int(rng.integers(1, 3))
  lane = own - 1 if left else own - 2
  start = float(rng.uniform(12, 26))
  change = scenes.Change(start, OVER, -towns.LANE if left else towns.LANE,
                         start + 60.0)
  scene, kerbs = scenes.avenue(kind, rng, 82, own, opposing,
                               start + OVER + 32.0, (lane, change))
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  x = float(scene.route.xy[0, 0])
  _queue(scene, rng, lane - 1 if left else lane + 1,
         x + float(rng.uniform(12, 22)), float(rng.uniform(3.4, 4.8)),
         int(rng.integers(3, 6)), (12, 22))
  return scene


def _queue(scene, rng, lane, x, pace, count, gaps):
  """Cars one behind the other from x backward, all at about one pace."""
  for _ in range(count):
    car = scene.add_traffic(rng, ("a", "b", lane), x, pace,
                            pace + float(rng.uniform(-0.2, 0.2)))
    car.body.DISTANCE_WANTED, car.body.TIME_WANTED = 8.0, 0.8
    x -= float(rng.uniform(*gaps))


def parking_exit(kind, seed, rng):
  """Out of a slot at the kerb, into a lane in which cars come along."""
  del seed
  own, opposing = int(rng.integers(1, 3)), int(rng.integers(1, 3))
  across = -(towns.PARKING / 2 - scenes.SLOT_INWARD + towns.LANE / 2)
  change = scenes.Change(SLOT, OUT, across, actors.EGO_EXTENT[0] + 0.5)
  scene, kerbs = scenes.avenue(kind, rng, 83, own, opposing, 52.0,
                               (-1, change))
  scene.speed = 0.0
  x = float(scene.route.xy[0, 0])
  along = x + 30.0  # kerbs begin 30 m before the street
  room = float(rng.uniform(11.5, 13.5))
  for kerb in kerbs:
    free = [(along - 12.0, along + room)] if kerb.side > 0 else []
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0,
                                  free))
  scene.add(actors.vehicle(
      rng, kerbs[1].point(along + room, -towns.PARKING / 2), 0.0,
      state="static"))
  pace = float(rng.uniform(5.5, 7.5))
  x -= pace * float(rng.uniform(0.7, 1.6)) + 4.0
  for _ in range(int(rng.integers(1, 4))):
    scene.add_traffic(rng, ("a", "b", own - 1), x, pace,
                      pace + float(rng.uniform(-0.3, 0.3)))
    x -= float(rng.uniform(10, 24))
  return scene


def emergency_vehicle(kind, seed, rng):
  """An ambulance, fire engine or police car wants past."""
  del seed
  own, opposing = int(rng.integers(2, 4)), int(rng.integers(1, 3))
  scene, kerbs = scenes.avenue(kind, rng, 84, own, opposing, 88.0, (0, None))
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  x = float(scene.route.xy[0, 0])
  type_id = str(rng.choice(sorted(actors.EMERGENCY)))
  pace = float(rng.uniform(11.0, 13.0))
  body = actors.TrafficCar(
      scene.road, ("a", "b", 0), x - float(rng.uniform(28, 42)), pace, pace,
      actors.EMERGENCY[type_id][0])
  body.DISTANCE_WANTED, body.TIME_WANTED = 9.0, 0.6
  scene.road.vehicles.append(body)
  scene.makes_way_for = actors.emergency_vehicle(rng, body, type_id)
  scene.makes_way_for.follow_body()
  scene.add(scene.makes_way_for)
  scene.triggers.append(scene.makes_way_for)
  if rng.random() < 0.4:
    scene.add_traffic(rng, ("a", "b", 1), x + float(rng.uniform(45, 60)),
                      float(rng.uniform(5, 7)), float(rng.uniform(5.5, 7)))
  return scene


def cut_in(kind, seed, rng):
  """A car of the next lane, left or right, cuts in and slows down."""
  left = seed % 2 == 0
  own, opposing = int(rng.integers(2, 4)), int(rng.integers(1, 3))
  lane = int(rng.integers(1, own)) if left else int(rng.integers(0, own - 1))
  place = float(rng.uniform(14, 34))
  scene, kerbs = scenes.avenue(kind, rng, 85, own, opposing, place + 40.0,
                               (lane, None))
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  ahead = float(rng.uniform(8.5, 11.0))
  x = float(scene.route.xy[0, 0]) + float(rng.uniform(-6, ahead))
  car = scene.add_traffic(rng, ("a", "b", lane - 1 if left else lane + 1), x,
                          scene.speed, scene.speed)
  scene.triggers.append(car)
  scene.scripts.append(scripts.CutIn(
      car, ("a", "b", lane), place, ahead, float(rng.uniform(0.4, 0.6)),
      float(rng.uniform(5.5, 7.5))))
  return scene
