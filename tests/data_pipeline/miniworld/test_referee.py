"""What a drive is charged with, on scenes where that is known."""

import dataclasses
import math

import numpy as np
import pytest

from data_pipeline.miniworld import drivers, episode, names, referee
from data_pipeline.miniworld import world as worlds

SMALL = (32, 18)
SEED = names.FIRST_TEST_SEED


def record(kind, make, seed=SEED):
  return episode.drive(kind, seed, make, SMALL)["record"]


def charged(found):
  return {kind for kind, texts in found["infractions"].items() if texts}


@pytest.mark.parametrize("scene, kind", [
    ("VanillaSignalizedTurnEncounterRedLight", "red_light"),
    ("VanillaNonSignalizedTurnEncounterStopsign", "stop_infraction"),
    ("DynamicObjectCrossing", "collisions_pedestrian"),
    ("HardBreakRoute", "collisions_vehicle"),
    ("ConstructionObstacle", "collisions_layout"),
    ("YieldToEmergencyVehicle", "yield_emergency_vehicle_infractions")])
def test_whoever_sees_nothing_is_charged_with_what_the_scene_is_about(
    scene, kind):
  found = record(scene, drivers.Blind)
  assert kind in charged(found)
  assert found["status"] == "Completed"
  assert found["scores"]["score_route"] == 100.0
  assert found["scores"]["score_penalty"] < 1.0


def test_whoever_does_nothing_is_blocked_after_twenty_seconds_of_standing():
  found = record("ParkingExit", drivers.Still)  # it stands from the start
  assert found["status"] == "Failed - Agent got blocked"
  assert charged(found) == {"vehicle_blocked"}
  assert found["meta"]["duration_game"] == pytest.approx(
      referee.BLOCKED_S, abs=0.1)
  assert found["scores"]["score_composed"] < 1.0


class Swerves:
  """Leaves the road to the right and comes to a stop there."""

  def __init__(self, world):
    self._world = world

  def control(self):
    if self._world.state().tick < 35:
      return worlds.Control(throttle=0.5, steer=0.35)
    return worlds.Control(brake=1.0)


def test_the_way_off_the_road_is_charged_by_its_share():
  found = record("HighwayCutIn", Swerves)
  text, = found["infractions"]["outside_route_lanes"]
  share = float(text.split("m, ")[1].split("%")[0])
  assert 5.0 < share < 100.0
  factor = 1.0 - share / 100.0
  for kind, each in referee.FACTORS.items():
    factor *= each ** len(found["infractions"][kind])
  assert found["scores"]["score_penalty"] == pytest.approx(factor, abs=1e-6)


def watched(kind, *moments):
  """Infractions after states that differ from the scene's first one so."""
  world = worlds.World(SMALL)
  first = world.reset(kind, SEED)
  judge = referee.Referee(world)
  for moment in moments:
    judge.watch(dataclasses.replace(first, **moment(world.scene)))
  return judge.infractions


@pytest.mark.parametrize("beyond, times", [(-0.1, 0), (0.1, 1)])
def test_a_red_light_is_passed_when_the_tail_passes_its_line(beyond, times):
  # CARLA looks from 0.8 half lengths behind the middle backwards.
  at = lambda scene: {"speed": 5.0,
                      "progress": scene.lines[0].s + 0.8 * 2.45 + beyond}
  again = lambda scene: {"speed": 5.0, "progress": scene.lines[0].s + 9.0}
  charged = watched("VanillaSignalizedTurnEncounterRedLight", at)
  assert len(charged["red_light"]) == times
  charged = watched("VanillaSignalizedTurnEncounterRedLight", at, again)
  assert len(charged["red_light"]) == 1


@pytest.mark.parametrize("before, times", [
    (6.1 + 2.45, 1), (5.9 + 2.45, 0), (0.1, 0), (-0.1, 1)])
def test_a_stop_sign_is_heeded_until_the_middle_passes_the_line(before, times):
  stands = lambda scene: {"speed": 0.0,
                          "progress": scene.lines[0].s - before}
  goes = lambda scene: {"speed": 5.0, "progress": scene.lines[0].s + 0.2}
  charged = watched("VanillaNonSignalizedTurnEncounterStopsign", stands, goes)
  assert len(charged["stop_infraction"]) == times


def test_whoever_stands_hits_nobody():
  hit = lambda speed: lambda scene: {
      "speed": speed, "collisions": (scene.brakes_for,)}
  assert not watched("HardBreakRoute", hit(0.05))["collisions_vehicle"]
  charged = watched("HardBreakRoute", hit(0.05), hit(0.2), hit(3.0))
  assert len(charged["collisions_vehicle"]) == 1


def test_an_actor_is_hit_once():
  texts = record("HardBreakRoute", drivers.Blind)["infractions"][
      "collisions_vehicle"]
  ids = [text.split("(id ")[1].split(")")[0] for text in texts]
  assert len(ids) == len(set(ids))


def test_motion_is_in_the_worlds_axes_and_degrees():
  world = worlds.World(SMALL)
  world.reset("VanillaSignalizedTurnEncounterRedLight", SEED)
  for _ in range(20):
    state = world.step(worlds.Control(throttle=1.0, steer=0.4))
  said = referee.motion(state)
  forward, right = (np.array(said[key][:2]) for key in (
      "forward_vector", "right_vector"))
  assert forward @ right == pytest.approx(0.0)
  acceleration = np.array(said["acceleration"][:2])
  assert acceleration @ forward == pytest.approx(state.acceleration[0])
  assert acceleration @ right == pytest.approx(state.acceleration[1])
  assert said["angular_velocity"][2] == pytest.approx(
      math.degrees(state.angular_velocity[2]))


def test_route_numbers_tell_their_type_and_are_none_of_carlas():
  for kind in names.TYPES:
    assert names.kind_of(names.number(kind, names.LAST_SEED)) == kind
  numbers = {names.number(k, s) for k in names.TYPES for s in (0, 20000)}
  assert len(numbers) == 2 * len(names.TYPES)
  assert not any(map(names.kind_of, ("1711", "24211", "999000000")))
