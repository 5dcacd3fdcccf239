"""Label files: the official format, side files, restarts, refusals."""

import dataclasses
import json
import os

import pytest

from data_pipeline import bench2drive, errors
from data_pipeline.labels import constants as consts
from data_pipeline.labels import files, generate
from tests.data_pipeline import fixtures
from tests.data_pipeline.labels import drives

NAME = "TJunction_Town01_Route0_Weather0"


def route(root, name=NAME, near=(4, 4, 1, 1, 4)):
  (root / "routes" / name / "anno").mkdir(parents=True)
  for t, command in enumerate(near):
    fixtures.write_frame(root / "routes" / name, t,
                         drives.moment(near=command))
  return str(root / "routes"), str(root / "out")


def write(root, out, name=NAME, **options):
  return generate.write_route(name, root=root, out=out, **options)


def snapshot(out):
  return {path: (os.stat(path).st_mtime_ns, open(path, "rb").read())
          for folder, _, names in os.walk(out)
          for path in (os.path.join(folder, name) for name in names)}


def test_the_files_are_the_official_ones_byte_for_byte(tmp_path):
  root, out = route(tmp_path)
  written = write(root, out)
  assert written == generate.Written(True, 5, "TJunction", {
      "camera": {"NULL": 3, "CAM_FRONT_LEFT": 2}, "skill": {"NORMAL": 5}})
  text = (tmp_path / "out" / "camera_labels" / f"{NAME}.json").read_text()
  assert text == ('{\n    "0": "NULL",\n    "1": "NULL",\n'
                  '    "2": "CAM_FRONT_LEFT",\n    "3": "CAM_FRONT_LEFT",\n'
                  '    "4": "NULL"\n}')
  assert sorted(os.listdir(out)) == [
      "camera_labels", "label_rules", "scenario_labels"]
  assert files.read(out, "skill", NAME) == ["NORMAL"] * 5


def test_the_training_pipeline_reads_them(tmp_path):
  root, name, _ = fixtures.write_route(tmp_path / "a", labels=False)
  for t in range(24):
    fixtures.write_frame(tmp_path / "a" / name, t, fixtures.frame(t) |
                         drives.moment(near=2 if t < 9 else 4))
  with_labels = pytest.raises(errors.DataError)
  with with_labels:
    bench2drive.read_route(root, name, str(tmp_path / "out"))
  write(root, str(tmp_path / "out"), name)
  for t in range(24):
    fixtures.write_frame(tmp_path / "a" / name, t, fixtures.frame(t))
  read = bench2drive.read_route(root, name, str(tmp_path / "out"))
  assert read.camera.tolist() == [1] * 9 + [2] * 15
  assert read.skill.tolist() == [6] * 24


def test_the_side_file_tells_version_numbers_source_and_rules(tmp_path):
  root, out = route(tmp_path)
  write(root, out)
  side = json.load(open(files.path_of(out, "rules", NAME)))
  assert side == {
      "version": consts.VERSION, "frames": 5, "junctions": "command",
      "constants": dataclasses.asdict(consts.DEFAULTS),
      "camera": ["C9", "C9", "C1", "C1", "C9"], "skill": ["S7"] * 5}


def test_what_is_there_is_not_made_again(tmp_path):
  root, out = route(tmp_path)
  write(root, out)
  before = snapshot(out)
  assert not write(root, out).new
  assert snapshot(out) == before
  assert write(root, out, overwrite=True).new
  assert {p: text for p, (_, text) in snapshot(out).items()} == {
      p: text for p, (_, text) in before.items()}


@pytest.mark.parametrize("writes", range(5))
def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch, writes):
  root, out = route(tmp_path)
  whole = os.replace
  done = []

  def replace(source, target):
    if len(done) == writes:
      raise KeyboardInterrupt
    done.append(target)
    whole(source, target)

  monkeypatch.setattr(os, "replace", replace)
  if writes < 4:
    with pytest.raises(KeyboardInterrupt):
      write(root, out)
  else:
    write(root, out)
  monkeypatch.undo()
  assert write(root, out).new == (writes < 4)
  assert files.read(out, "camera", NAME)[2] == "CAM_FRONT_LEFT"


def test_labels_of_another_making_are_not_replaced_unasked(tmp_path):
  root, out = route(tmp_path)
  fixtures.write_labels(tmp_path / "out", NAME, ["NULL"] * 5, ["NORMAL"] * 5)
  before = snapshot(out)
  with pytest.raises(errors.DataError, match="--overwrite"):
    write(root, out)
  assert snapshot(out) == before
  assert write(root, out, overwrite=True).new
  other = dataclasses.replace(consts.DEFAULTS, hold=4)
  with pytest.raises(errors.DataError, match="constants .*'hold': 3"):
    write(root, out, c=other)
  fixtures.write_frame(tmp_path / "routes" / NAME, 5, drives.moment())
  with pytest.raises(errors.DataError, match="frames 5 there, 6 now"):
    write(root, out)


def test_a_broken_side_file_is_named(tmp_path):
  root, out = route(tmp_path)
  write(root, out)
  path = files.path_of(out, "rules", NAME)
  for text in ("{", "[]", "{}"):
    with open(path, "w") as file:
      file.write(text)
    with pytest.raises(errors.DataError,
                       match="is no JSON|cannot be read"):
      write(root, out)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
  root, out = route(tmp_path)

  def refuse(source, target):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(errors.StorageError, match="No space left"):
    write(root, out)
  assert snapshot(out) == {}


def test_one_worker_and_two_write_the_same_and_bad_routes_are_yielded(tmp_path):
  names = [f"TJunction_Town0{town}_Route{i}_Weathe"
           for i, town in enumerate((2, 1, 2))]
  for name in names:
    root, _ = route(tmp_path, name)
  broken = tmp_path / "routes" / names[1] / "anno" / "00003.json.gz"
  broken.write_bytes(b"")
  for workers in (1, 2):
    out = str(tmp_path / f"out{workers}")
    found = dict(generate.write_routes(
        root, generate.list_routes(root), out, workers=workers))
    assert isinstance(found[names[1]], errors.DataError)
    assert "00003.json.gz" in str(found[names[1]])
    assert found[names[0]].new and found[names[2]].new
  for kind in ("camera", "skill", "rules"):
    for name in (names[0], names[2]):
      one, two = (open(files.path_of(str(tmp_path / f"out{w}"), kind, name)
                       ).read() for w in (1, 2))
      assert one == two
  with pytest.raises(errors.ConfigError, match="at least 1"):
    list(generate.write_routes(root, names, out, workers=0))


def test_with_maps_routes_go_town_by_town(tmp_path):
  names = [f"{kind}_Town0{town}_Route1_Weather0"
           for kind, town in (("A", 2), ("B", 1), ("T_Junction", 2))]
  for name in names:
    root, _ = route(tmp_path, name)
  assert generate.list_routes(root) == names
  assert generate.list_routes(root, maps="maps") == [
      names[1], names[0], names[2]]
