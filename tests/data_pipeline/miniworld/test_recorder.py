"""The data folder: complete, readable by our reader, always the same."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from data_pipeline import bench2drive, errors, windows, writing
from data_pipeline.miniworld import cameras, recorder, worker

SETTINGS = dict(scenario_types=["TJunction", "ParkedObstacle"], seeds=[0],
                val_seeds=[9000], size=(64, 36), max_frames=14)


def digest(folder):
  """{relative path: SHA-256} of every file."""
  found = {}
  for root, _, files in os.walk(folder):
    for name in files:
      path = os.path.join(root, name)
      with open(path, "rb") as file:
        found[os.path.relpath(path, folder)] = hashlib.sha256(
            file.read()).hexdigest()
  return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("recorded") / "data")
  return folder, recorder.record(folder, workers=1, **SETTINGS)


@pytest.fixture
def copy(recorded, tmp_path):
  shutil.copytree(recorded[0], tmp_path / "data")
  return str(tmp_path / "data")


def test_it_has_the_official_layout(recorded):
  folder, summary = recorded
  assert len(summary["routes"]) == 4
  for name, frames in summary["routes"].items():
    kind, town, route, weather = name.split("_")
    assert kind in SETTINGS["scenario_types"]
    assert (town[:4], route[:5], weather[:7]) == ("Town", "Route", "Weather")
    assert frames == 14
    for camera in cameras.RIG:
      files = sorted(os.listdir(f"{folder}/routes/{name}/camera/{camera}"))
      assert files == [f"{i:05d}.jpg" for i in range(14)]
    with Image.open(f"{folder}/routes/{name}/camera/rgb_front/00003.jpg") as i:
      assert i.size == (64, 36) and i.mode == "RGB"
    for kind in worker.LABELS:
      with open(f"{folder}/{kind}/{name}.json") as file:
        assert list(json.load(file)) == [str(i) for i in range(14)]


def test_our_reader_reads_it(recorded):
  folder, summary = recorded
  names = bench2drive.list_routes(f"{folder}/routes")
  assert sorted(names) == sorted(summary["routes"])
  train, val = bench2drive.split(names, val_list=f"{folder}/val_routes.txt")
  assert len(train) == len(val) == 2
  assert set(val) == set(summary["val_routes"])
  route = bench2drive.read_route(f"{folder}/routes", names[0], folder)
  assert len(route.speed) == 14
  found = windows.collect(f"{folder}/routes", folder, names, 5, 10)
  assert len(found.camera) == 4 * (14 - 10)
  np.testing.assert_array_equal(found.action[:, 0], 0.0)
  assert (found.action[:, -1, 0] > 0.5).all()  # everybody drives ahead


def test_children_write_the_same_bytes(recorded, tmp_path):
  recorder.record(str(tmp_path / "two"), workers=2, **SETTINGS)
  assert digest(tmp_path / "two") == digest(recorded[0])


def test_a_complete_folder_is_left_alone(copy):
  before = {path: os.stat(os.path.join(copy, path)).st_mtime_ns
            for path in digest(copy)}
  summary = recorder.record(copy, workers=1, progress=pytest.fail, **SETTINGS)
  assert len(summary["routes"]) == 4
  assert before == {path: os.stat(os.path.join(copy, path)).st_mtime_ns
                    for path in digest(copy)}


@pytest.mark.parametrize("lost", ["routes", "camera_labels", "summary"])
def test_an_interrupted_recording_is_completed(recorded, copy, lost):
  name = recorded[1]["val_routes"][0]
  if lost == "routes":
    shutil.rmtree(f"{copy}/routes/{name}")
    os.makedirs(f"{copy}/.part_{name}/anno")  # what a killed run leaves
  elif lost == "camera_labels":
    os.remove(f"{copy}/camera_labels/{name}.json")
  else:
    with open(f"{copy}/dataset.json") as file:
      plan = json.load(file)["plan"]
    with open(f"{copy}/dataset.json", "w") as file:
      json.dump({"plan": plan, "summary": None}, file)
    os.remove(f"{copy}/val_routes.txt")
  recorder.record(copy, workers=1, **SETTINGS)
  assert digest(copy) == digest(recorded[0])


def test_another_recording_or_somebody_elses_folder_is_refused(copy, tmp_path):
  with pytest.raises(errors.DataError, match="seeds"):
    recorder.record(copy, workers=1, **SETTINGS | {"seeds": [1]})
  with pytest.raises(errors.DataError, match=r"seeds \[0\] there, 3\.\.52 a"):
    recorder.record(copy, workers=1, **SETTINGS | {"seeds": range(3, 53)})
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "diary.txt").write_text("private")
  with pytest.raises(errors.DataError, match="not empty"):
    recorder.record(str(tmp_path / "mine"), workers=1, **SETTINGS)
  assert os.listdir(tmp_path / "mine") == ["diary.txt"]


@pytest.mark.parametrize("change, word", [
    ({"scenario_types": ["TJunctoin"]}, "TJunction"),
    ({"val_seeds": [0]}, "disjoint"), ({"quality": 10}, "quality"),
    ({"seeds": [20000]}, "0 to 19999"), ({"val_seeds": [-1, 3]}, "-1 to 3"),
    ({"max_frames": 0}, "max_frames 0"), ({"val_max_frames": -2}, "1 or more"),
    ({"size": (64, 35)}, "64x35"), ({"seeds": [], "val_seeds": []}, "seeds")])
def test_bad_arguments_write_nothing(tmp_path, change, word):
  with pytest.raises(errors.ConfigError, match=word):
    recorder.record(str(tmp_path / "x"), workers=1, **SETTINGS | change)
  assert not (tmp_path / "x").exists()


def test_two_recorders_do_not_fill_one_folder(tmp_path):
  out = str(tmp_path)
  with writing.alone(out, "recorded"), pytest.raises(
      errors.ConfigError, match="being recorded by process"):
    recorder.record(out, workers=1, **SETTINGS)
  assert os.listdir(out) == [writing.LOCK]


def test_a_folder_that_is_whole_may_be_held(copy):
  with writing.alone(copy, "recorded"):
    assert recorder.record(copy, workers=1, **SETTINGS)["routes"]


def test_a_kill_before_the_first_file_leaves_a_folder_to_go_on_in(tmp_path):
  (tmp_path / "dataset.json.part").write_text("{")
  found = recorder.record(str(tmp_path), ["TJunction", "TJunction"], [0], [],
                          size=(32, 32), max_frames=1, workers=1)
  assert len(found["routes"]) == 1  # named twice, recorded once


def test_quality_is_bytes(tmp_path, recorded):
  small = dict(SETTINGS, scenario_types=["TJunction"], val_seeds=[],
               quality=30)
  recorder.record(str(tmp_path / "low"), workers=1, **small)
  name = os.listdir(tmp_path / "low" / "routes")[0]
  path = f"routes/{name}/camera/rgb_front/00000.jpg"
  assert (os.path.getsize(tmp_path / "low" / path)
          < 0.7 * os.path.getsize(os.path.join(recorded[0], path)))


def test_validation_routes_may_be_longer(tmp_path):
  summary = recorder.record(
      str(tmp_path / "data"), workers=1, **SETTINGS | {
          "scenario_types": ["TJunction"], "max_frames": 3,
          "val_max_frames": 5})
  lengths = {name in summary["val_routes"]: frames
             for name, frames in summary["routes"].items()}
  assert lengths == {False: 3, True: 5}
