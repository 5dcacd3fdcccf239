"""Whose routes a run records, goes on recording, or uses."""

import json
import os

import pytest

from data_pipeline import errors
from data_pipeline.miniworld import drivers, episode
from drivemoe_jax import datasets
from launch import cli
from tests.small_run import ROOT


def test_a_run_of_its_own_does_not_take_the_routes_of_where_it_is_started(
    tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = cli.load_config(os.path.join(ROOT, "configs", "tiny.py"), [])
  for folder in ("data", "first/data"):
    os.makedirs(folder)
    with open(os.path.join(folder, "dataset.json"), "w") as file:
      file.write("{}")
  assert datasets.data_folder(config, "run") == os.path.join("run", "data")
  config.init_from = "first"
  assert datasets.data_folder(config, "run") == os.path.join("first", "data")


def world(*changes):
  """A config that records one scenario, small."""
  return cli.load_config(
      os.path.join(ROOT, "configs", "mini.py:round=2"),
      [f"--config.{change}" for change in (
          "data.record.scenarios=[TJunction]", "data.record.train_seeds=2",
          "data.record.width_px=64", "data.record.height_px=36",
          "data.record.max_frames=18", "data.record.handover_frames=18",
          "data.workers=1", *changes)])


@pytest.fixture(scope="module")
def first_round(tmp_path_factory):
  """A run's folder with its routes and its config; it was never trained."""
  folder = tmp_path_factory.mktemp("first")
  config = world("data.record.learner=False", "data.record.first_seed=0",
                 "data.record.val_seeds=1", "data.record.val_max_frames=17")
  datasets.record(config, str(folder))
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  return folder


def test_a_second_round_adds_the_routes_that_its_source_drove(
    first_round, tmp_path):
  asked = []

  def driven(run, wanted, size, quality, workers, progress):
    asked.append((run, wanted, size, quality, workers))
    folder = first_round / "drives" / "model-7"
    for kind, seed in wanted:
      if not os.path.isdir(episode.path(folder, kind, seed)):
        episode.write(folder, episode.drive(kind, seed, drivers.Blind, size))
    (folder / "plan.json").write_text('{"driver": "blind"}')
    return str(folder)

  config = world(f"init_from={first_round}@7")
  with pytest.raises(errors.ConfigError, match="launch.record --learner"):
    datasets.record(config, str(tmp_path))
  datasets.record(config, str(tmp_path), driven=driven)
  # Seed 64 is the expert's from the start.
  assert asked == [(f"{first_round}@7", [("TJunction", 65)], (64, 36), 90, 1)]
  seeds = lambda folder: sorted(
      int(name.split("Route")[1].split("_")[0])
      for name in os.listdir(folder / "data" / "routes"))
  assert seeds(first_round) == [0, 1, 9000]
  assert seeds(tmp_path) == [0, 1, 64, 65, 9000]
  train = datasets.windows(config, str(tmp_path), "train")
  assert {name.split("_")[2] for name in train.routes} == {
      "Route0", "Route1", "Route64", "Route65"}


def test_a_run_that_records_nothing_uses_the_routes_of_its_source(
    first_round, tmp_path):
  same = (f"init_from={first_round}", "data.record.learner=False",
          "data.record.val_max_frames=17")
  datasets.record(world(*same), str(tmp_path))
  assert not os.listdir(tmp_path)
  with pytest.raises(errors.ConfigError, match="max_frames 18 there, 19 here"):
    datasets.record(world(*same, "data.record.max_frames=19"), str(tmp_path))


def test_nobody_goes_on_driving_where_nobody_has_recorded(tmp_path):
  with pytest.raises(errors.ConfigError, match="--config.init_from=WORKDIR"):
    datasets.record(world(), str(tmp_path), driven=pytest.fail)


def test_several_hosts_do_not_drive(first_round, tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.jax, "process_count", lambda: 2)
  with pytest.raises(errors.ConfigError, match="on one host"):
    datasets.record(world(f"init_from={first_round}"), str(tmp_path),
                    driven=pytest.fail)
