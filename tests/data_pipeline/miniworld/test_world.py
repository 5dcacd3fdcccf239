"""The World interface: handedness, pedals, sensors, events, determinism."""

import numpy as np
import pytest

from data_pipeline import errors
from data_pipeline.miniworld import scenarios, town
from data_pipeline.miniworld import world as worlds

Control = worlds.Control
SMALL = (64, 36)


def drive(scenario, seed, control, ticks):
  world = worlds.World(SMALL)
  states = [world.reset(scenario, seed)]
  for _ in range(ticks):
    states.append(world.step(control))
  return world, states


def test_a_fork_goes_the_same_way_and_by_itself():
  world, _ = drive("VanillaSignalizedTurnEncounterRedLight", 2,
                   Control(throttle=0.4), 30)
  before, places = world.state(), [a.position.copy() for a in
                                   world.scene.actors]
  one, two = world.fork(), world.fork()
  for _ in range(100):  # long enough for the lights to change
    states = [each.step(Control(throttle=0.3, steer=0.02))
              for each in (one, two)]
  for name in ("position", "gnss", "acceleration"):
    np.testing.assert_array_equal(*(getattr(s, name) for s in states))
  np.testing.assert_array_equal(one.cameras()["rgb_front"],
                                two.cameras()["rgb_front"])
  assert world.state() is before
  for actor, place in zip(world.scene.actors, places):
    np.testing.assert_array_equal(actor.position, place)
  for _ in range(100):
    world.step(Control(throttle=0.3, steer=0.02))
  np.testing.assert_array_equal(world.state().gnss, states[0].gnss)


def test_steering_right_turns_right():
  _, states = drive("ParkedObstacle", 1, Control(throttle=0.3, steer=0.2), 20)
  assert states[0].heading == 0.0
  assert states[-1].heading > 0.1
  assert states[-1].position[1] > states[0].position[1] + 0.1
  assert states[-1].angular_velocity[2] > 0
  assert states[-1].acceleration[1] > 0.5  # the turn pushes to the right


def test_throttle_quickens_and_brakes_stop_without_reversing():
  _, quick = drive("TJunction", 1, Control(throttle=1.0), 20)
  assert quick[-1].speed > quick[0].speed + 2
  assert quick[-1].acceleration[0] > 1
  _, slow = drive("TJunction", 1, Control(brake=1.0), 60)
  assert slow[-1].speed == 0
  gone = slow[-1].position[0] - slow[0].position[0]
  # v^2 / 2a with full brakes of 11 m/s^2, and drag.
  assert gone == pytest.approx(slow[0].speed ** 2 / 22, rel=0.15)


def test_sensors_measure_what_they_should():
  _, states = drive("TJunction", 1, Control(brake=1.0), 300)
  last = states[-100:]  # standing
  assert np.mean([s.acceleration[2] for s in last]) == pytest.approx(
      9.81, abs=1e-3)
  heading = last[0].heading
  turn = np.array([[np.cos(heading), -np.sin(heading)],
                   [np.sin(heading), np.cos(heading)]])
  behind = np.array([(s.gnss - s.position) @ turn for s in last])
  np.testing.assert_allclose(behind.mean(0), (-1.4, 0.0), atol=0.2)
  assert behind.std(0) == pytest.approx(0.556, rel=0.25)
  assert last[0].compass == pytest.approx(heading + np.pi / 2)


def test_same_seed_same_world_and_another_seed_another():
  control = Control(throttle=0.4, steer=0.05)
  pictures = []
  for seed in (3, 3, 4):
    world, states = drive("DynamicObjectCrossing", seed, control, 15)
    pictures.append((states[-1], world.cameras(), world.visible()))
  (one, a, points), (two, b, same), (three, c, _) = pictures
  np.testing.assert_array_equal(one.gnss, two.gnss)
  assert one.near == two.near and points == same
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])
    assert a[name].shape == (36, 64, 3)
  assert not np.array_equal(one.gnss, three.gnss)
  assert any(not np.array_equal(a[name], c[name]) for name in a)


def test_looking_changes_nothing():
  control = Control(throttle=0.4)
  blind, _ = drive("ParkedObstacleTwoWays", 2, control, 30)
  looking = worlds.World(SMALL)
  looking.reset("ParkedObstacleTwoWays", 2)
  for _ in range(30):
    looking.cameras(), looking.visible(), looking.state()
    looking.step(control)
  np.testing.assert_array_equal(looking.state().gnss, blind.state().gnss)
  np.testing.assert_array_equal(looking.state().position,
                                blind.state().position)


def test_reset_forgets_the_last_episode():
  world, _ = drive("ParkedObstacle", 2, Control(throttle=1.0, steer=0.4), 40)
  again, fresh = world.reset("TJunction", 5), worlds.World(SMALL).reset(
      "TJunction", 5)
  np.testing.assert_array_equal(again.gnss, fresh.gnss)
  assert again.far == fresh.far and again.tick == 0


def test_driving_on_into_a_parked_car_is_a_collision():
  world, states = drive("ParkedObstacle", 0, Control(throttle=0.6), 120)
  hit = {actor.id for state in states for actor in state.collisions}
  assert world.scene.triggers[0].id in hit
  assert not states[0].collisions


def test_leaving_the_road_is_noticed():
  _, states = drive("ParkedObstacleTwoWays", 0,
                    Control(throttle=0.4, steer=0.3), 60)
  assert not states[0].off_road and any(s.off_road for s in states)


@pytest.mark.parametrize("beyond, off", [(-0.1, False), (0.4, False),
                                         (0.7, True)])
def test_off_the_road_is_half_a_metre_beside_it_with_the_middle(beyond, off):
  world = worlds.World((32, 18))
  world.reset("ParkedObstacleTwoWays", 0)
  # One lane to the right of the middle, and the strip for parking.
  edge = town.LANE + town.PARKING
  world.ego.position = np.array([30.0, edge + beyond])
  world.ego.speed = 0.0
  assert world.step(Control(brake=1.0)).off_road == off


@pytest.mark.parametrize("kind, bright, dark", [
    ("VanillaSignalizedTurnEncounterRedLight", 0, 1),
    ("VanillaSignalizedTurnEncounterGreenLight", 1, 0)])
@pytest.mark.parametrize("before", [2.6, 8.0])
def test_a_light_is_in_the_front_picture_up_to_its_line(
    kind, bright, dark, before):
  """In the pictures of a recording, of 160 pixels."""
  for seed in range(4):
    world = worlds.World((160, 90))
    world.reset(kind, seed)
    route = world.scene.route
    # The box begins 4.2 m behind the line.
    line = route.s[route.junction][0] - 4.2
    s = line - before - world.ego.LENGTH / 2 - 1.0
    world.ego.position = route.point(s)
    world.ego.heading = float(route.heading[route.index(s)])
    pixels = world.cameras()["rgb_front"]
    lit = (pixels[..., bright] > 200) & (pixels[..., dark] < 110)
    assert lit.sum() > 20


def test_brakes_are_seen_of_cars_that_move():
  world = worlds.World((160, 90))
  world.reset("HardBreakRoute", 0)
  lead, views = world.scene.brakes_for, []
  for lead.braking in (False, True):
    views.append(world.cameras()["rgb_front"].astype(int))
  brighter = np.argwhere((views[1] - views[0])[..., 0] > 60)
  assert len(brighter) > 4 and lead.shown is lead.looks["brakes"]
  # On the car ahead, below the horizon.
  assert (brighter[:, 0] >= 40).all()
  assert (abs(brighter[:, 1] - 80) < 20).all()


def test_overlap_of_turned_boxes():
  square = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], float)
  diamond = square @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
  assert worlds.overlap(square, diamond + [2.3, 0])
  assert not worlds.overlap(square, diamond + [2.5, 0])
  assert not worlds.overlap(square, diamond + [1.8, 1.8])


def test_start_speed_and_place_differ_between_seeds():
  """Neither the ego's state nor the clock tells when something happens."""
  speeds, places = [], []
  for seed in range(40):
    scene = scenarios.build("ParkedObstacle", seed)
    speeds.append(scene.speed)
    places.append(scene.route.project(scene.triggers[0].position)[0])
  assert np.ptp(speeds) > 3 and np.ptp(places) > 8
  assert abs(np.corrcoef(speeds, places)[0, 1]) < 0.4


@pytest.mark.parametrize("kind, moves", [
    ("TJunction", {town.LEFT, town.RIGHT}),
    ("VanillaSignalizedTurnEncounterGreenLight",
     {town.LEFT, town.RIGHT, town.STRAIGHT})])
def test_consecutive_seeds_hold_all_turns(kind, moves):
  seen = set()
  for seed in range(len(moves)):
    route = scenarios.build(kind, seed).route
    seen |= set(route.command[route.junction])
  assert seen == moves


def test_an_unknown_scenario_is_named_with_the_nearest():
  with pytest.raises(errors.ConfigError, match="ParkedObstacle"):
    worlds.World(SMALL).reset("ParkedObstcale", 0)
