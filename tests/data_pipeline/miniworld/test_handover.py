"""Recordings that begin in the middle: the same every time, never badly."""

import json

import numpy as np
import pytest

from data_pipeline import bench2drive, ticks
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import handover, recorder, referee, worker
from data_pipeline.miniworld import world as worlds

SIZE = (64, 36)
SCENE = "VanillaSignalizedTurnEncounterRedLight", 1


def reset(kind, seed):
  world = worlds.World(SIZE)
  world.reset(kind, seed)
  return world


def begun(kind, seed):
  return handover.begin(reset(kind, seed))


def lead(world, driver):
  """A Referee who watched up to the handover itself."""
  judge = referee.Referee(world)
  for _ in range(handover.LEAD):
    judge.watch(world.step(driver.control()))
  return judge


def test_the_car_is_elsewhere_than_the_expert_would_have_it():
  world, _ = begun(*SCENE)
  state = world.state()
  assert state.tick >= ticks.TICKS and not state.collisions
  alone = reset(*SCENE)
  driver = experts.Expert(alone)
  for _ in range(state.tick):
    alone.step(driver.control())
  assert abs(alone.state().speed - state.speed) > 0.5


def test_the_expert_gets_along_from_there():
  world, driver = begun(*SCENE)
  judge = lead(world, driver)
  while not judge.ended:
    judge.watch(world.step(driver.control()))
  assert judge.ended == "Completed"
  assert not any(judge.infractions.values())


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_only_a_late_handover_is_just_in_time(late, monkeypatch):
  """Soon the careless one would have passed the red light."""
  monkeypatch.setattr(handover, "LATE", late)
  monkeypatch.setattr(handover, "LATE_TICKS", 1)
  left = []
  for seed in (1, 2, 3, 5, 6, 7):
    world, driver = begun(SCENE[0], seed)
    judge = lead(world, driver)
    for _ in range(36):
      judge.watch(world.step(driver.careless.control(world)))
    left.append(bool(judge.infractions["red_light"]))
  assert sum(left) >= 4 if late else sum(left) <= 2


def test_a_scene_has_one_handover():
  (first, one), (again, two) = begun(*SCENE), begun(*SCENE)
  assert first.state().tick == again.state().tick
  assert one.careless == two.careless
  np.testing.assert_array_equal(first.state().position,
                                again.state().position)
  other, third = begun("TJunction", SCENE[1])
  assert (other.state().tick, third.careless) != (
      first.state().tick, one.careless)


def test_the_careless_weave():
  careless = handover.Careless(7.0, 0.5, 0.3, 20.0, 0.0)
  assert careless.offset(0.0) == pytest.approx(careless.offset(20.0)) == 0.5
  assert careless.offset(5.0) == pytest.approx(0.8)
  assert careless.offset(15.0) == pytest.approx(0.2)


def test_where_none_goes_well_the_drive_is_a_whole_one(monkeypatch):
  tried = []
  monkeypatch.setattr(
      handover, "_is_safe",
      lambda world, careless: tried.append(world.state().tick))
  world, driver = begun(*SCENE)
  assert world.state().tick + handover.LEAD == ticks.TICKS - 1
  assert driver.careless is None
  assert tried == sorted(tried, reverse=True) and len(tried) > 1
  assert tried[-1] >= ticks.TICKS and not any(tick % 2 for tick in tried)


def test_every_eighth_seed_begins_on_the_brake():
  world, driver = begun(SCENE[0], 8)
  assert driver.careless is None and not world.state().tick % worker.EVERY
  while world.state().tick < ticks.TICKS - 1:
    assert driver.control() == worlds.Control(brake=1.0)
    state = world.step(driver.control())
  assert state.speed < 0.3 * reset(SCENE[0], 8).state().speed


@pytest.mark.parametrize("frames", [0, 7])
def test_only_training_routes_begin_otherwise(frames, tmp_path):
  folder = str(tmp_path / "data")
  summary = recorder.record(folder, [SCENE[0]], [0, 1], [9001], size=SIZE,
                            max_frames=9, handover_frames=frames, workers=1)
  away, length = {}, {}
  for name, count in summary["routes"].items():
    seed = int(name.split("_")[2].removeprefix("Route"))
    route = bench2drive.read_route(f"{folder}/routes", name, folder)
    away[seed] = bool(np.hypot(*(
        route.position[0] - reset(SCENE[0], seed).state().position)) > 1.0)
    length[seed] = count
  assert away == {0: False, 1: bool(frames), 9001: False}
  assert length == {0: 9, 1: frames or 9, 9001: 9}
  with open(f"{folder}/dataset.json", encoding="utf-8") as file:
    assert json.load(file)["plan"].get("handover_frames", 0) == frames


def test_a_recording_begins_before_its_handover(tmp_path):
  """At its frame LEAD / EVERY the careless one has driven for LEAD ticks."""
  folder = str(tmp_path / "data")
  summary = recorder.record(folder, [SCENE[0]], [SCENE[1]], [], size=SIZE,
                            handover_frames=20, workers=1)
  (name,) = summary["routes"]
  route = bench2drive.read_route(f"{folder}/routes", name, folder)
  world, driver = begun(*SCENE)
  for _ in range(handover.LEAD):
    world.step(driver.careless.control(world))
  np.testing.assert_allclose(route.position[handover.LEAD // worker.EVERY],
                             world.state().position)
