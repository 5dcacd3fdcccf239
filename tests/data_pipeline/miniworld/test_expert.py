"""The expert arrives unharmed, and only because it looks."""

import numpy as np
import pytest

from data_pipeline.miniworld import (
  actors,
  names,
  paths,
  scenarios,
  seen,
  town,
)
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import world as worlds


class Blind(experts.Expert):
  """Follows the route and sees nobody."""

  def _perceive(self, state):
    self._seen = {}


def drive(scenario, seed, driver=experts.Expert, **options):
  """(arrived, touched anything, left the road, list of braking ticks)."""
  world = worlds.World((64, 36))
  state = world.reset(scenario, seed)
  pilot = driver(world, **options)
  touched, strayed, brakes = False, False, []
  while not state.finished:
    control = pilot.control()
    if control.brake > 0.5:
      brakes.append(state.tick)
    state = world.step(control)
    touched |= bool(state.collisions)
    strayed |= not all_wheels(world)
  return state.tick < worlds.LIMIT, touched, strayed, brakes


def all_wheels(world):
  """Is all of the car on the road? More than a drive is charged with."""
  ego = actors.Actor("vehicle", actors.EGO_EXTENT, world.ego.position,
                     world.ego.heading, None)
  return world.is_drivable(ego.footprint()).all()


def infractions(scenario, seeds):
  bad = {seed: drive(scenario, seed)[:3] for seed in seeds}
  return {seed: end for seed, end in bad.items() if end != (True, False, False)}


# One seed each: the slow test below and the labels' test drive more.
@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_it_arrives_without_an_infraction(scenario):
  assert not infractions(scenario, [names.FIRST_TEST_SEED])


@pytest.mark.parametrize("scenario, seed", [
    ("LaneChange", 46),            # parked cars beside the lane that it leaves
    ("ParkedObstacleTwoWays", 52)])  # somebody comes towards it in its bypass
def test_it_waits_for_nobody_who_leaves_it_room(scenario, seed):
  assert not infractions(scenario, [seed])


def test_its_pedals_are_those_of_the_car_s_controller():
  """What a plan in the loop makes of them: release's limits, full brakes."""
  world, driven = worlds.World((64, 36)), set()
  state = world.reset("TJunction", 0)
  pilot = experts.Expert(world)
  while not state.finished:
    control = pilot.control()
    driven.add((control.throttle, control.brake))
    if state.tick % 2 == 0 and control.throttle == 0.75:
      assert state.speed <= 7.0
    state = world.step(control)
  assert driven == {(0.75, 0.0), (0.05, 0.0), (0.0, 1.0)}


@pytest.mark.parametrize("wish, speed, steer, braking, expected", [
    (-2.7, 7.0, 0.0, False, (0.75, 0.0)), (-2.9, 7.0, 0.0, False, (0.0, 1.0)),
    (-0.1, 7.0, 0.0, True, (0.0, 1.0)), (0.1, 7.0, 0.0, True, (0.75, 0.0)),
    (0.4, 0.5, 0.0, False, (0.0, 1.0)), (0.6, 0.5, 0.0, True, (0.75, 0.0)),
    (1.0, 7.1, 0.0, False, (0.05, 0.0)), (1.0, 4.6, 0.1, False, (0.75, 0.0)),
    (1.0, 4.6, -0.2, False, (0.05, 0.0))])
def test_a_wish_becomes_a_pedal(wish, speed, steer, braking, expected):
  assert experts.pedals(wish, speed, steer, braking) == expected


@pytest.mark.slow
@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_it_arrives_without_an_infraction_on_many_seeds(scenario):
  first = names.FIRST_TEST_SEED
  assert not infractions(
      scenario, [*range(60), *range(9000, 9020), *range(first, first + 20)])


@pytest.mark.parametrize("scenario", ["ParkedObstacle",
                                      "ParkedObstacleTwoWays"])
def test_whoever_does_not_look_runs_into_the_obstacle(scenario):
  assert all(drive(scenario, seed, Blind)[1] for seed in (0, 1))


def test_whoever_does_not_look_runs_over_people():
  assert any(drive("DynamicObjectCrossing", seed, Blind)[1]
             for seed in (0, 1, 2))


def first_brake(seed, sees_all):
  """(tick of the first hard braking, tick at which the walker appears)."""
  world = worlds.World((64, 36))
  state = world.reset("DynamicObjectCrossing", seed)
  pilot, seen = experts.Expert(world, sees_all), None
  while not state.finished:
    if seen is None and world.visible()[world.scene.triggers[0].id] > 0:
      seen = state.tick
    if pilot.control().brake > 0.5:
      return state.tick, seen
    state = world.step(pilot.control())
  raise AssertionError("it never braked")


def test_it_brakes_for_people_only_once_they_can_be_seen():
  early = 0
  for seed in (0, 1, 2, 3):
    tick, seen = first_brake(seed, sees_all=False)
    assert seen is not None and tick >= seen
    early += first_brake(seed, sees_all=True)[0] < tick
  assert early >= 2  # and an all-seeing one is quicker


def test_people_on_the_pavement_are_no_reason_to_brake():
  assert not drive("DynamicObjectCrossing", 4)[3]  # nobody steps out


def test_it_slows_before_a_bend_no_harder_than_comfortable():
  path = paths.trace((0.0, 0.0), 0.0, [(75.0, 0.0), (25.0, 0.125)])
  route = town.Route(path, np.full(len(path.s), 4),
                     np.zeros(len(path.s), bool))
  limit = experts.speed_profile(route, cruise=9.0)
  assert limit[0] == 9.0
  assert limit[-1] == pytest.approx(np.sqrt(experts.LATERAL * 8.0), rel=1e-3)
  slope = np.diff(limit ** 2) / (2 * paths.STEP)
  assert slope.min() >= -experts.EASE - 1e-9


def test_following_keeps_its_distance():
  assert seen.idm(8.0, 8.0, 60.0) > seen.idm(8.0, 8.0, 15.0)
  assert seen.idm(8.0, 4.0, 15.0) < seen.idm(8.0, 8.0, 15.0)
  assert seen.idm(5.0, 0.0, 0.0) == -seen.FULL
  assert seen.idm(0.0, 0.0, seen.STANDSTILL) == pytest.approx(0.0)


def test_whoever_is_late_brakes_fully():
  """7 m/s and 4 m/s^2 take 6.1 m, to stand 3 m behind."""
  assert seen.idm(7.0, 0.0, 9.0) == -seen.FULL
  assert -seen.FULL < seen.idm(7.0, 0.0, 9.3) < -2.0
  # A plan of it loses more than the third that the controller waits for.
  ahead = 7.0 - seen.FULL * 0.7 / 2
  assert ahead < 0.65 * 7.0 < 7.0 - seen.LATE * 0.7 / 2
