"""nuScenes from its tables to a prepared folder and to training on it."""

import glob
import os

import jax
import numpy as np
import pytest

from data_pipeline import prepared
from drivemoe_jax import build, step, train
from launch import cli, import_nuscenes
from tests.data_pipeline import nuscenes_tree
from tests.small_run import MODEL

SCENES = ("scene-0061", "scene-0103", "scene-0655")
NAME = "nuScenes_boston-seaport_Route{}_Weather0".format


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  return nuscenes_tree.write(tmp_path_factory.mktemp("nuscenes"), SCENES)


@pytest.fixture(scope="module")
def out(tree, tmp_path_factory):
  """The prepared folder, of images as small as the model takes."""
  folder = tmp_path_factory.mktemp("prepared")
  scenes = folder / "val.txt"
  scenes.write_text("scene-0103\nscene-9999\n")
  status = import_nuscenes.main([
      *arguments(tree, folder / "out"), "--val-scenes", str(scenes)])
  assert status == 0
  return folder / "out"


def arguments(tree, out):
  return ["--root", tree, "--version", "v1.0-test", "--out", str(out),
          "--size", "14", "--encoding", "png", "--horizons", "10",
          "--workers", "1"]


def test_scenes_become_routes(out):
  data = prepared.Prepared(str(out))
  assert data.names() == [NAME(n) for n in ("0061", "0103", "0655")]
  assert (out / "val_routes.txt").read_text().split() == [NAME("0103")]
  split = {r["name"]: r["split"] for r in data.manifest["routes"]}
  assert [split[name] for name in data.names()] == ["train", "val", "train"]
  route = data.read_route(NAME("0061"))
  assert route.camera is None and route.skill is None and len(route) == 30
  assert os.path.isfile(out / "statistics_h10.json")


def test_a_second_call_changes_nothing(tree, out):
  before = {path: os.stat(path).st_mtime_ns
            for path in glob.glob(str(out / "drivemoe_frames" / "**"),
                                  recursive=True)}
  scenes = out.parent / "val.txt"
  assert import_nuscenes.main([
      *arguments(tree, out), "--val-scenes", str(scenes)]) == 0
  assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_training_needs_no_labels(out, tmp_path):
  changes = {f"model.{key}": value for key, value in MODEL.items()} | {
      "data.root": out, "data.val_list": out / "val_routes.txt",
      "data.workers": 1, "model.vocab_size": 64, "model.text_len": 6,
      "model.dtype": "float32", "model.remat": "none",
      "prompt_ids": "[2, 5]", "total_updates": 3, "global_batch": 4,
      "per_device_batch": 4, "mesh.fsdp": 1, "log_every": 1}
  config = cli.load_config("configs/nuscenes.py", [
      f"--config.{key}={value}" for key, value in changes.items()])
  lines = []
  assert train.run(config, str(tmp_path), lines.append) == 0
  assert lines[-1] == "done: step 3"
  assert not any("camera" in line or "skill" in line for line in lines)
  # The plan's loss alone has moved both routers.
  now = build.load_run(str(tmp_path)).params["router"]
  start = step.init_params(
      build.model(config), jax.random.key(config.seed))["router"]
  for router in ("camera", "skill"):
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), now[router],
                         start[router])
    assert max(jax.tree.leaves(moved)) > 0, router


def test_a_list_of_other_scenes_is_refused(tree, tmp_path, capsys):
  scenes = tmp_path / "val.txt"
  scenes.write_text("scene-0001\n")
  status = import_nuscenes.main([
      *arguments(tree, tmp_path / "out"), "--val-scenes", str(scenes)])
  assert status == 3
  assert "none of them among the 3 found" in capsys.readouterr().err
  scenes.unlink()
  assert import_nuscenes.main([
      *arguments(tree, tmp_path / "out"), "--val-scenes", str(scenes)]) == 3


def test_a_share_of_the_scenes_is_held_out(tree, tmp_path):
  assert import_nuscenes.main([
      *arguments(tree, tmp_path), "--val-fraction", "0.34"]) == 0
  assert len((tmp_path / "val_routes.txt").read_text().split()) == 1
