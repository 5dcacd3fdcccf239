"""Every kind of fault is found, named and counted, in raw and prepared data."""

import gzip
import json
import pathlib
import shutil

import numpy as np
import pytest
from array_record.python import array_record_module

from data_pipeline import (
    bench2drive,
    errors,
    normalize,
    prepare,
    prepared,
    raw_routes,
    records,
    verify_prepared,
    verify_raw,
)
from data_pipeline.labels import annotations
from launch import verify_data
from tests.data_pipeline import fixtures

LENGTHS = (9, 12)
FRAMES, IMAGES = sum(LENGTHS), 6 * sum(LENGTHS)
NAMES = [fixtures.NAME.format(i) for i in range(len(LENGTHS))]


def write_routes(root):
  for name, frames in zip(NAMES, LENGTHS, strict=True):
    fixtures.write_route(root, name, frames=frames)
  (root / "val.txt").write_text(NAMES[1] + "\n")
  return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A raw folder and a prepared one; read only."""
  root = write_routes(tmp_path_factory.mktemp("data") / "raw")
  source = raw_routes.RawRoutes(str(root), str(root / "labels"))
  prepare.prepare(source, str(root.parent / "prepared"), prepare.Options(
      size=12, encoding="png", horizons=(5,)), {NAMES[1]},
      say=lambda line: None)
  return root.parent


@pytest.fixture
def raw(folder, tmp_path):
  return pathlib.Path(shutil.copytree(folder / "raw", tmp_path / "raw"))


@pytest.fixture
def ready(folder, tmp_path):
  return pathlib.Path(
      shutil.copytree(folder / "prepared", tmp_path / "prepared"))


def check_raw(root, **options):
  return verify_raw.check(str(root), str(root / "labels"), **options)


def test_whole_raw_routes_have_no_fault(folder):
  report = check_raw(folder / "raw", val_list=str(folder / "raw/val.txt"))
  assert report.faults == []
  assert (report.routes, report.frames) == (2, FRAMES)
  assert report.checked == {
      "route name": 2, "annotation": FRAMES, "numbers": FRAMES,
      "camera file": IMAGES, "image": IMAGES, "labels": 4, "split": 2,
      "split list": 1}
  assert "image" not in check_raw(folder / "raw", decode=False).checked


def test_workers_change_nothing(raw):
  (raw / NAMES[0] / "camera/rgb_back/00004.jpg").unlink()
  (raw / NAMES[1] / "anno/00003.json.gz").unlink()
  one, two = (check_raw(raw, everything=True, workers=n) for n in (1, 2))
  assert one == two and len(one.faults) == 2


def test_files_of_other_names_are_no_frames_to_anybody(raw):
  anno = raw / NAMES[0] / "anno"
  shutil.copy(anno / "00005.json.gz", anno / "00005 (1).json.gz")
  assert check_raw(raw).faults == []
  assert annotations.count_frames(str(raw), NAMES[0]) == (
      raw_routes.RawRoutes(str(raw)).length(NAMES[0]))
  bench2drive.read_route(str(raw), NAMES[0], str(raw / "labels"))


def spoil_gzip(path):
  path.write_bytes(path.read_bytes()[:-12])


def spoil_json(path):
  path.write_bytes(gzip.compress(b'{"x": 1'))


def spoil_number(path):
  content = json.loads(gzip.decompress(path.read_bytes()))
  path.write_bytes(gzip.compress(json.dumps(
      content | {"speed": float("nan")}).encode()))


def spoil_image(path):
  path.write_bytes(path.read_bytes()[:200])


def spoil_labels(path):
  labels = json.loads(path.read_text())
  del labels["8"]
  path.write_text(json.dumps(labels))


@pytest.mark.parametrize("file, spoil, check, frame, words", [
    ("anno/00003.json.gz", pathlib.Path.unlink, "annotation", 3, "missing"),
    ("anno/00003.json.gz", spoil_gzip, "numbers", 3, "cannot be read"),
    ("anno/00003.json.gz", spoil_json, "numbers", 3, "cannot be read"),
    ("anno/00003.json.gz", spoil_number, "numbers", 3, "speed"),
    ("camera/rgb_back/00008.jpg", pathlib.Path.unlink, "camera file", 8,
     "frame 8 of 9"),
    ("camera/rgb_front/00000.jpg", spoil_image, "image", 0, "no readable"),
    ("../labels/camera_labels/{}.json", spoil_labels, "labels", None,
     "labels 8 frames"),
    ("../labels/scenario_labels/{}.json", pathlib.Path.unlink, "labels", None,
     "missing")])
def test_each_raw_fault_is_named(raw, file, spoil, check, frame, words):
  path = raw / NAMES[0] / file.format(NAMES[0])
  spoil(path)
  (fault,) = check_raw(raw, everything=True).faults
  assert fault[:3] == (check, NAMES[0], frame)
  assert pathlib.Path(fault.file).name == path.name
  assert words in fault.message and path.name in fault.message


def test_a_missing_camera_is_a_fault_of_every_frame(raw):
  shutil.rmtree(raw / NAMES[0] / "camera" / "rgb_back_left")
  faults = check_raw(raw, everything=True).faults
  assert [(f.check, f.frame) for f in faults] == [
      ("camera file", t) for t in range(9)]
  assert len(check_raw(raw).faults) == 1


def test_an_empty_route_and_a_strange_name_are_faults(raw):
  (raw / "Odd" / "anno").mkdir(parents=True)
  faults = check_raw(raw, everything=True).faults
  assert [f.check for f in faults] == ["route name", "annotation", "labels",
                                       "labels"]


def test_a_recording_on_both_sides_is_found(raw):
  twin = NAMES[0].replace("Route0", "Route7")
  shutil.copytree(raw / NAMES[0], raw / twin)
  for kind in ("camera_labels", "scenario_labels"):
    shutil.copy(raw / "labels" / kind / f"{NAMES[0]}.json",
                raw / "labels" / kind / f"{twin}.json")
  val_list = raw / "val.txt"
  look = lambda: check_raw(raw, val_list=str(val_list), everything=True).faults
  assert look() == []  # twice in training
  val_list.write_text(f"{twin}\n{NAMES[1]}\n")
  (fault,) = look()
  assert fault.check == "split" and NAMES[0] in fault.message
  assert f"{twin} (val)" in fault.message


def test_a_list_of_other_routes_is_found(raw):
  (raw / "val.txt").write_text(f"{NAMES[1]}\nGone\n{NAMES[1]}\n")
  faults = check_raw(raw, val_list=str(raw / "val.txt"),
                     everything=True).faults
  assert [f.route for f in faults] == ["Gone", NAMES[1]]
  assert "listed twice" in faults[1].message


def check_prepared(root, **options):
  return verify_prepared.check(str(root), **options)


def test_a_whole_prepared_folder_has_no_fault(folder):
  report = check_prepared(folder / "prepared",
                          val_list=str(folder / "raw/val.txt"))
  assert report.faults == []
  assert (report.routes, report.frames) == (2, FRAMES)
  assert report.checked == {
      "file": 2, "shard": 2, "record count": 2, "record": FRAMES,
      "image": IMAGES, "route hash": 2, "split": 4, "split list": 1}


def test_a_flipped_byte_is_two_faults_and_names_the_record(ready):
  path = next(ready.rglob("*train*-of-*"))
  data = bytearray(path.read_bytes())
  at = [i for i in range(len(data)) if data.startswith(b"IDAT", i)]
  data[at[6 * 4] + 20] ^= 1  # an image of frame 4
  path.write_bytes(data)
  record, shard = check_prepared(ready, everything=True).faults
  assert record[:3] == ("record", NAMES[0], 4) and "record 4" in record.message
  assert shard.check == "shard" and "sha256" in shard.message


def test_a_shard_cut_short_or_gone_is_found(ready):
  path = next(ready.rglob("*val*-of-*"))
  path.write_bytes(path.read_bytes()[:80000])
  first = check_prepared(ready).faults[0]
  assert first.check == "record" and "cut short" in first.message
  path.unlink()
  every = check_prepared(ready, everything=True)
  assert len(every.faults) == LENGTHS[1] + 1
  assert "No such file" in every.faults[-1].message


def rewrite(root, change):
  """Writes a shard anew with changed records, and the manifest's hash."""
  manifest = prepared.read_manifest(str(root))
  shard = manifest["shards"][0]
  path = root / shard["file"]
  reader = array_record_module.ArrayRecordReader(str(path))
  found = [{k: bytes(v) for k, v in records.decode(data).items()}
           for data in reader.read_all()]
  writer = array_record_module.ArrayRecordWriter(
      str(path), "group_size:1,uncompressed")
  for record in change(found):
    writer.write(records.encode(record))
  writer.close()
  shard["bytes"] = path.stat().st_size
  shard["sha256"] = prepared.file_hash(str(path))
  (root / prepared.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("key, value, word", [
    ("speed", np.float64(-1).tobytes(), "speed"),
    ("skill", np.int32(2).tobytes(), "skill"),
    ("frame", np.int64(7).tobytes(), "frame"),
    ("route", b"Other", "route")])
def test_records_of_other_frames_are_found(ready, key, value, word):
  rewrite(ready, lambda found: [r | ({key: value} if t == 5 else {})
                                for t, r in enumerate(found)])
  record, route = check_prepared(ready, everything=True).faults
  assert record[:3] == ("record", NAMES[0], 5)
  assert f"{word} differs" in record.message
  assert route.check == "route hash"


def test_images_of_another_size_are_found(ready):
  small = records.encode_image(np.zeros((8, 8, 3), np.uint8), "png")
  rewrite(ready, lambda found: [r | {"rgb_front": small, "rgb_back": b"no"}
                                if t == 2 else r for t, r in enumerate(found)])
  front, back, _ = check_prepared(ready, everything=True).faults
  assert front[:3] == back[:3] == ("image", NAMES[0], 2)
  assert "8x8" in front.message and "no readable" in back.message
  found = check_prepared(ready, everything=True, decode=False).faults
  assert [f.check for f in found] == ["route hash"]


def test_other_statistics_than_the_manifest_names_are_found(ready):
  path = ready / normalize.file_name(5)
  path.write_text(path.read_text().replace("5", "6", 1))
  (fault,) = check_prepared(ready).faults
  assert fault.check == "file" and "statistics_h5.json" in fault.message
  path.unlink()
  assert "No such file" in check_prepared(ready).faults[0].message


def test_another_split_than_the_list_is_found(ready, tmp_path):
  (tmp_path / "val.txt").write_text(NAMES[0])
  faults = check_prepared(ready, val_list=str(tmp_path / "val.txt"),
                          everything=True).faults
  assert [(f.check, f.route) for f in faults] == [
      ("split", NAMES[0]), ("split", NAMES[1])]


def run(*args):
  return verify_data.main([str(a) for a in args])


def test_the_command_prints_a_table_and_the_first_fault(raw, capsys):
  assert run("--root", raw, "--labels", raw / "labels") == 0
  out = capsys.readouterr().out
  assert f"2 routes, {FRAMES} frames" in out
  assert ["image", str(IMAGES), "0"] in [x.split() for x in out.splitlines()]
  for t in (2, 5):
    spoil_image(raw / NAMES[0] / f"camera/rgb_front/{t:05d}.jpg")
  args = "--root", raw, "--labels", raw / "labels"
  assert run(*args) == errors.DataError.status == 3
  err = capsys.readouterr().err
  assert err.startswith("E-DATA") and "00002.jpg" in err and "--all" in err
  assert run(*args, "--all", "--json", "-") == 3
  out, err = capsys.readouterr()
  result = json.loads(out)
  assert not result["ok"] and result["kind"] == "raw"
  assert result["checks"]["image"] == {"checked": IMAGES, "faults": 2}
  assert [f["frame"] for f in result["faults"]] == [2, 5]
  assert "2 faults in all" in err
  assert run(*args, "--no-images") == 0


def test_the_command_reads_prepared_folders(folder, capsys):
  root = folder / "prepared"
  assert run("--root", root, "--val-list", folder / "raw/val.txt",
             "--json", "-") == 0
  assert json.loads(capsys.readouterr().out)["kind"] == "prepared"
  assert run("--root", root, "--labels", folder) == 2
  assert "in its records" in capsys.readouterr().err
