"""Scenarios in which something stands in the ego's lane."""

from data_pipeline.miniworld import actors, scenery, shapes
from data_pipeline.miniworld import scene as scenes
from data_pipeline.miniworld import town as towns

WARNING = ("static.prop.trafficwarning", (1.2, 1.15, 1.25))
CONE = ("static.prop.constructioncone", (0.24, 0.24, 0.42))


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
    for _ in range(scenes.few(rng)):
      scene.add_traffic(rng, ("c", "d", 0), scenes.STREET - x,
                        float(rng.uniform(5, 7.5)),
                        float(rng.uniform(5.5, 7.5)))
      x += float(rng.uniform(12, 24))
  else:
    x = float(scene.route.xy[0, 0]) - float(rng.uniform(4, 25))
    for _ in range(scenes.few(rng)):
      scene.add_traffic(rng, ("a", "b", 0), x, float(rng.uniform(6, 9)),
                        float(rng.uniform(6.5, 9.5)))
      x -= float(rng.uniform(9, 22))
  return scene


def construction_obstacle(kind, seed, rng):
  """Road works. On even seeds they stand free in the middle of three lanes,
  and nothing tells on which side to pass; otherwise the way is to the left."""
  free = seed % 2 == 0
  own, lane = (3, 1) if free else (2, 1)
  place = float(rng.uniform(20, 32))
  scene, kerbs = scenes.avenue(kind, rng, 96, own, int(rng.integers(1, 3)),
                               place + 34.0, (lane, None))
  for kerb in kerbs:
    scene.add(*scenery.parked_row(rng, kerb, towns.PARKING, kerb.side < 0))
  length = float(rng.uniform(5, 9))
  add = lambda what, mesh, along, aside: scene.add(actors.prop(
      *what, mesh, scene.route.point(place + along, aside), 0.0))  # pyright: ignore[reportCallIssue]
  add(WARNING, shapes.warning_board(WARNING[1]), 0.0,
      float(rng.uniform(-0.1, 0.1)))
  scene.triggers.append(scene.actors[-1])
  for i in range(4):
    for side in (-1, 1):
      add(CONE, shapes.cone(), 2.0 + i * length / 3, side * 1.15)
  add(("static.prop.container", (1.0, 0.8, 0.7)),
      shapes.hedge((1.0, 0.8, 0.7), (188, 152, 60)), 2.0 + length / 2, 0.0)
  scene.bypass = "same"
  scene.bypass_side = 1 if free and rng.random() < 0.5 else -1
  if not free:
    x = float(scene.route.xy[0, 0]) - float(rng.uniform(6, 25))
    for _ in range(scenes.few(rng)):
      scene.add_traffic(rng, ("a", "b", 0), x, float(rng.uniform(6, 9)),
                        float(rng.uniform(6.5, 9.5)))
      x -= float(rng.uniform(10, 22))
  return scene
