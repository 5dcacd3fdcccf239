"""One recording in another, and drives whose driver leaves the car."""

import json
import os
import shutil

import pytest

from data_pipeline import errors, ticks
from data_pipeline.miniworld import (
  drivers,
  episode,
  handover,
  recorder,
  referee,
)
from data_pipeline.miniworld import world as worlds

KIND, SEED, SIZE = "HardBreakRoute", 1, (64, 36)
BASE = dict(scenario_types=[KIND], seeds=[3], val_seeds=[9000], size=SIZE,
            max_frames=8, workers=1)
MORE = BASE | dict(seeds=[SEED], val_seeds=[], handover_frames=8)


class Starts(drivers.Blind):
  """Sees nobody, and stands on the brake at first as every policy does."""

  def control(self):
    if self._world.state().tick < ticks.TICKS:
      return handover.BRAKE
    return super().control()


def plan_of(folder):
  with open(f"{folder}/dataset.json", encoding="utf-8") as file:
    return json.load(file)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("base") / "data")
  recorder.record(folder, **BASE)
  return folder


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
  """Of somebody who runs into the car that stops ahead."""
  folder = tmp_path_factory.mktemp("drives")
  episode.write(str(folder), episode.drive(KIND, SEED, Starts, SIZE))
  (folder / "plan.json").write_text(json.dumps({"driver": "blind"}))
  return str(folder)


def test_a_drive_is_had_again_without_its_driver(drives):
  known = episode.controls(drives, KIND, SEED)
  world = worlds.World(SIZE)
  world.reset(KIND, SEED)
  driver, again = Starts(world), handover.Again(known)
  for control in known:
    assert driver.control() == control == again.control(world)
    world.step(control)
  assert again.control(world) == handover.BRAKE  # who has no more to say


def test_a_drive_may_end_at_its_first_fault(drives):
  whole = episode.controls(drives, KIND, SEED)
  short = episode.drive(KIND, SEED, Starts, SIZE, until_fault=True)
  controls = [worlds.Control(*c) for c in short["drive"]["controls"]]
  assert len(controls) < len(whole) and controls == whole[:len(controls)]
  assert short["record"]["num_infractions"] == 1
  world = worlds.World(SIZE)
  world.reset(KIND, SEED)
  judge = referee.Referee(world)
  for control in controls[:-1]:
    judge.watch(world.step(control))
  assert not any(judge.infractions.values())


def test_the_expert_takes_over_where_the_drive_led(drives):
  known = episode.controls(drives, KIND, SEED)
  world = worlds.World(SIZE)
  world.reset(KIND, SEED)
  begun, driver = handover.begin(world, known)
  there = begun.state()
  alone = worlds.World(SIZE)
  alone.reset(KIND, SEED)
  for control in known[:there.tick]:
    alone.step(control)
  assert isinstance(driver.careless, handover.Again)
  assert tuple(alone.state().position) == tuple(there.position)
  assert alone.state().speed == there.speed
  judge = referee.Referee(begun)
  for tick in range(handover.LEAD):
    control = driver.control()
    assert control == known[there.tick + tick]
    judge.watch(begun.step(control))
  while not judge.ended:
    judge.watch(begun.step(driver.control()))
  assert judge.ended == "Completed"
  assert not any(judge.infractions.values())


def test_a_recording_of_drives_holds_its_base_as_well(base, drives, tmp_path):
  out = str(tmp_path / "data")
  made = recorder.record(out, drives=drives, base=base, **MORE)
  old = plan_of(base)["summary"]
  assert len(made["routes"]) == 3 and made["val_routes"] == old["val_routes"]
  assert made["routes"].items() > old["routes"].items()
  for name in old["routes"]:
    path = f"routes/{name}/camera/rgb_front/00003.jpg"
    assert os.path.samefile(f"{base}/{path}", f"{out}/{path}")
  assert sorted(os.listdir(f"{out}/camera_labels")) == sorted(
      f"{name}.json" for name in made["routes"])
  # A killed one goes on; what is whole is left alone.
  lost = sorted(old["routes"])[0]
  shutil.rmtree(f"{out}/routes/{lost}")
  assert recorder.record(out, drives=drives, base=base, **MORE) == made
  with pytest.raises(errors.DataError, match="another recording.*base"):
    recorder.record(out, drives=drives, **MORE)


def test_where_links_cannot_be_routes_are_copied(base, drives, tmp_path,
                                                 monkeypatch):
  def refuse(*_):
    raise OSError("another device")

  monkeypatch.setattr(os, "link", refuse)
  out = str(tmp_path / "data")
  made = recorder.record(out, drives=drives, base=base, **MORE)
  assert len(made["routes"]) == 3
  for name in made["val_routes"]:
    path = f"routes/{name}/anno/00003.json.gz"
    with open(f"{base}/{path}", "rb") as a, open(f"{out}/{path}", "rb") as b:
      assert a.read() == b.read()


def test_what_does_not_fit_is_told(base, drives, tmp_path):
  out = str(tmp_path / "data")
  with pytest.raises(errors.ConfigError, match="seeds 3 to 3 already"):
    recorder.record(out, base=base, **(MORE | {"seeds": [3, 4]}))
  with pytest.raises(errors.ConfigError, match="handover_frames"):
    recorder.record(out, drives=drives, **(MORE | {"handover_frames": 0}))
  with pytest.raises(errors.DataError, match="drive.json.*drive it again"):
    recorder.record(f"{out}2", drives=drives, **(MORE | {"seeds": [2]}))
  assert not os.listdir(f"{out}2/routes")
  recorder.record(out, base=base, **MORE)
  with pytest.raises(errors.ConfigError, match="seeds 3 to 3 already"):
    recorder.record(f"{out}3", base=out, **(MORE | {"seeds": [3]}))
  begun = tmp_path / "begun"
  begun.mkdir()
  plan = plan_of(base)["plan"]
  (begun / "dataset.json").write_text(json.dumps(
      {"plan": plan, "summary": None}))
  with pytest.raises(errors.DataError, match="not finished"):
    recorder.record(out, base=str(begun), **MORE)
  (begun / "dataset.json").write_text(json.dumps(
      {"plan": plan | {"format": 1}, "summary": {"routes": {}}}))
  with pytest.raises(errors.ConfigError, match="format 1"):
    recorder.record(out, base=str(begun), **MORE)
  for broken in ("[]", '{"plan": null}', '{"plan": {"seeds": 3}}', "{"):
    (begun / "dataset.json").write_text(broken)
    with pytest.raises(errors.DataError, match="name a recording's folder"):
      recorder.record(out, base=str(begun), **MORE)
