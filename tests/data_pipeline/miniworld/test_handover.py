"""Recordings that begin in the middle: the same every time, never badly."""

import json

import numpy as np
import pytest

from data_pipeline import bench2drive, ticks
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import handover, recorder, referee
from data_pipeline.miniworld import world as worlds

SIZE = (64, 36)
SCENE = "VanillaSignalizedTurnEncounterRedLight", 1


def reset(kind, seed):
  world = worlds.World(SIZE)
  world.reset(kind, seed)
  return world


def begun(kind, seed):
  return handover.begin(reset(kind, seed))


def test_the_car_is_elsewhere_than_the_expert_would_have_it():
  world = begun(*SCENE)
  state = world.state()
  assert state.tick >= ticks.TICKS and not state.collisions
  alone = reset(*SCENE)
  driver = experts.Expert(alone)
  for _ in range(state.tick):
    alone.step(driver.control())
  assert abs(alone.state().speed - state.speed) > 0.5


def test_the_expert_gets_along_from_there():
  world = begun(*SCENE)
  driver, judge = experts.Expert(world), referee.Referee(world)
  while not judge.ended:
    judge.watch(world.step(driver.control()))
  assert judge.ended == "Completed"
  assert not any(judge.infractions.values())


def test_a_scene_has_one_handover():
  first, again = (begun(*SCENE).state() for _ in range(2))
  assert first.tick == again.tick
  np.testing.assert_array_equal(first.position, again.position)
  other = begun("TJunction", SCENE[1]).state()
  assert other.tick != first.tick or other.speed != first.speed


def test_where_none_goes_well_the_expert_begins(monkeypatch):
  tried = []
  monkeypatch.setattr(handover, "_is_safe", lambda world: tried.append(
      world.state().tick))
  assert begun(*SCENE).state().tick == 0
  assert tried == sorted(tried, reverse=True) and len(tried) > 1
  assert tried[-1] >= ticks.TICKS


def test_every_fourth_seed_begins_standing():
  world, alone = begun(SCENE[0], 4), reset(SCENE[0], 4)
  for _ in range(ticks.TICKS):
    alone.step(worlds.Control(brake=1.0))
  assert world.state().tick == ticks.TICKS
  assert world.state().speed < 0.5 * reset(SCENE[0], 4).state().speed
  np.testing.assert_array_equal(world.state().position, alone.state().position)
  assert begun(SCENE[0], 2).state().tick == 0


@pytest.mark.parametrize("handovers", [False, True])
def test_only_training_routes_begin_otherwise(handovers, tmp_path):
  folder = str(tmp_path / "data")
  summary = recorder.record(folder, [SCENE[0]], [0, 1, 2], [9001], size=SIZE,
                            max_frames=4, handovers=handovers, workers=1)
  at_start = {}
  for name in summary["routes"]:
    seed = int(name.split("_")[2].removeprefix("Route"))
    route = bench2drive.read_route(f"{folder}/routes", name, folder)
    at_start[seed] = bool(np.hypot(*(
        route.position[0] - reset(SCENE[0], seed).state().position)) < 0.01)
  assert at_start == {0: not handovers, 1: not handovers, 2: True, 9001: True}
  with open(f"{folder}/dataset.json", encoding="utf-8") as file:
    assert json.load(file)["plan"].get("handovers", False) is handovers
