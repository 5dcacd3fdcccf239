"""What earlier versions wrote is read; what later ones wrote is refused so.

tests/golden holds a prepared folder and a run (see test_adopt.py) of version 1
of their formats, and what was in them.
"""

import hashlib
import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

from data_pipeline import errors, normalize, prepared, records, verify_prepared
from drivemoe_jax import build, checkpoint, resume, stepfolders, train
from launch import checkpoints as listing

GOLDEN = pathlib.Path(__file__).parent / "golden"
NEWER = "this (version|program)"


def unpack(archive, folder):
  with tarfile.open(archive) as tar:
    tar.extractall(folder, filter="data")
  return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """The prepared folder of format 1; read only."""
  return unpack(GOLDEN / "prepared_v1" / "folder.tar.xz",
                tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def expected():
  return json.loads((GOLDEN / "prepared_v1" / "expected.json").read_text())


@pytest.fixture
def run(tmp_path):
  """The run of format 1, to change."""
  return unpack(GOLDEN / "checkpoint_v1" / "run.tar.xz", tmp_path)


def edit(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_prepared_folder_of_format_1_is_read(folder, expected):
  data, shards = prepared.Prepared(str(folder)), prepared.Shards(str(folder))
  assert data.names() == sorted(expected["routes"])
  for name, want in expected["routes"].items():
    route = data.read_route(name)
    np.testing.assert_allclose(route.position.sum(0), want["position"])
    np.testing.assert_allclose(route.heading.sum(), want["heading"])
    np.testing.assert_allclose(route.speed.sum(), want["speed"])
    assert route.camera.tolist() == want["camera"]
    assert route.skill.tolist() == want["skill"]
    for t, digest in enumerate(want["images"]):
      record = shards.record(name, t)
      found = b"".join(bytes(record[camera]) for camera in records.IMAGES)
      assert hashlib.sha256(found).hexdigest() == digest
      for pixels in shards.pixels(name, t, records.IMAGES, 8).values():
        assert pixels.shape == (8, 8, 3)


def test_its_windows_and_statistics_are_the_same(folder, expected):
  data = prepared.Prepared(str(folder))
  windows = data.collect(data.names(), history=3, horizon=2)
  assert len(windows) == expected["windows"]
  np.testing.assert_allclose(np.abs(windows.action).sum(dtype=np.float64),
                             expected["action"], rtol=1e-6)
  for horizon, p99 in expected["statistics"].items():
    path = folder / normalize.file_name(int(horizon))
    assert normalize.load(str(path), int(horizon)).p99 == pytest.approx(p99)


def test_it_stands_the_check_of_prepared_folders(folder):
  report = verify_prepared.check(str(folder), everything=True)
  assert not report.faults and report.frames == 15


@pytest.mark.parametrize("name, read", [
    (prepared.MANIFEST, prepared.Prepared),
    ("statistics_h2.json", lambda root: normalize.load(
        f"{root}/statistics_h2.json", 2))])
def test_prepared_files_of_a_later_version_are_refused(
    folder, tmp_path, name, read):
  shutil.copytree(folder, tmp_path / "copy")
  edit(tmp_path / "copy" / name, format=2)
  with pytest.raises(errors.DataError,
                     match=f"{name} is of format 2, {NEWER} reads format 1"):
    read(str(tmp_path / "copy"))


def test_statistics_without_a_format_are_those_of_the_first(folder, tmp_path):
  path = tmp_path / "statistics.json"
  content = json.loads((folder / "statistics_h2.json").read_text())
  del content["format"]
  path.write_text(json.dumps(content))
  assert normalize.load(str(path), 2) == normalize.load(
      str(folder / "statistics_h2.json"), 2)


def test_a_checkpoint_of_a_later_version_is_refused_but_listed(run):
  edit(run / "checkpoints" / "2" / stepfolders.META, format=2,
       healthy="very")  # who knows what it will mean
  saved = checkpoint.Checkpoints(str(run), read_only=True)
  with pytest.raises(errors.CheckpointError,
                     match=f"format 2, {NEWER} reads 1; use the version"):
    saved.meta(2)
  assert [s["format"] for s in listing.describe(str(run))["steps"]] == [2]


def test_training_does_not_go_on_from_a_later_version(run):
  config = build.load_config(str(run))
  path = run / "checkpoints" / "2" / stepfolders.META
  path.write_text(json.dumps({"format": 2}))  # the rest may be named otherwise
  with pytest.raises(errors.CheckpointError,
                     match=f"format 2, {NEWER} reads 1; use the version"):
    train.run(config, str(run), print)


def test_a_run_config_of_a_later_version_is_refused(run):
  edit(run / "config.json", warp_drive=9)
  with pytest.raises(errors.CheckpointError,
                     match=f"'warp_drive', which {NEWER} does not know.*later"):
    build.load_config(str(run))


def test_settings_that_came_later_take_their_defaults(run):
  before = build.flatten(build.load_config(str(run)))
  content = json.loads((run / "config.json").read_text())
  del content["max_skipped"], content["optim"]["kind"]
  (run / "config.json").write_text(json.dumps(content))
  assert build.flatten(build.load_config(str(run))) == before


def test_a_run_of_format_1_may_go_on(run):
  saved = checkpoint.Checkpoints(str(run), read_only=True)
  then = build.flatten(build.saved_config(saved.meta(2)))
  now = build.flatten(build.load_config(str(run)))
  assert resume.check_config(str(run), then, now) == []
