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


def test_the_car_is_elsewhere_than_the_expert_would_have_it():
  world = handover.begin(*SCENE, SIZE)
  state = world.state()
  assert state.tick >= ticks.TICKS and not state.collisions
  alone = worlds.World(SIZE)
  alone.reset(*SCENE)
  driver = experts.Expert(alone)
  for _ in range(state.tick):
    alone.step(driver.control())
  assert abs(alone.state().speed - state.speed) > 0.5


def test_the_expert_gets_along_from_there():
  world = handover.begin(*SCENE, SIZE)
  driver, judge = experts.Expert(world), referee.Referee(world)
  while not judge.ended:
    judge.watch(world.step(driver.control()))
  assert judge.ended == "Completed"
  assert not any(judge.infractions.values())


def test_a_scene_has_one_handover():
  first, again = (handover.begin(*SCENE, SIZE).state() for _ in range(2))
  assert first.tick == again.tick
  np.testing.assert_array_equal(first.position, again.position)
  other = handover.begin("TJunction", SCENE[1], SIZE).state()
  assert other.tick != first.tick or other.speed != first.speed


def test_where_none_goes_well_the_expert_begins(monkeypatch):
  tried = []
  monkeypatch.setattr(handover, "_is_safe", lambda world: tried.append(
      world.state().tick))
  assert handover.begin(*SCENE, SIZE).state().tick == 0
  assert tried == sorted(tried, reverse=True) and len(tried) > 1
  assert tried[-1] >= ticks.TICKS


def test_an_even_seed_is_the_experts_own_drive_after_the_brake():
  world = handover.begin(SCENE[0], 4, SIZE)
  alone = worlds.World(SIZE)
  alone.reset(SCENE[0], 4)
  for _ in range(ticks.TICKS):
    alone.step(worlds.Control(brake=1.0))
  assert world.state().tick == ticks.TICKS
  np.testing.assert_array_equal(world.state().position, alone.state().position)
  later = handover.begin(SCENE[0], 2, SIZE)
  assert later.state().tick > ticks.TICKS
  alone.reset(SCENE[0], 2)
  driver = experts.Expert(alone)
  for tick in range(later.state().tick):
    alone.step(worlds.Control(brake=1.0) if tick < ticks.TICKS
               else driver.control())
  np.testing.assert_array_equal(later.state().position, alone.state().position)


@pytest.mark.parametrize("handovers", [False, True])
def test_only_training_routes_begin_in_the_middle(handovers, tmp_path):
  folder = str(tmp_path / "data")
  summary = recorder.record(folder, [SCENE[0]], [0, 1], [9001], size=SIZE,
                            max_frames=4, handovers=handovers, workers=1)
  begun = {}
  for name in summary["routes"]:
    seed = int(name.split("_")[2].removeprefix("Route"))
    route = bench2drive.read_route(f"{folder}/routes", name, folder)
    world = worlds.World(SIZE)
    world.reset(SCENE[0], seed)
    begun[seed] = bool(np.hypot(*(
        route.position[0] - world.state().position)) < 0.01)
  assert begun == {0: not handovers, 1: not handovers, 9001: True}
  with open(f"{folder}/dataset.json", encoding="utf-8") as file:
    assert json.load(file)["plan"].get("handovers", False) is handovers
