"""Readers of recordings, labels, prepared folders and tables."""

import json
import shutil

import numpy as np

from data_pipeline import (
    bench2drive,
    frame_numbers,
    images,
    normalize,
    nuscenes,
    prepare,
    prepared,
    raw_routes,
    records,
    stage,
    tokenizer,
    verify_prepared,
    verify_raw,
    wire,
)
from data_pipeline.labels import annotations, files, generate
from tests.data_pipeline import fixtures, nuscenes_tree
from tests.fuzz import edits
from tests.fuzz.trial import Reader

NAME, BAD = fixtures.NAME.format(0), fixtures.NAME.format(1)
OPTIONS = prepare.Options(size=8, encoding="jpeg", horizons=(2,),
                          frames_per_shard=10)
JSON, GZIP = edits.Json(), edits.Gzip(edits.Json())
NPZ = edits.Zip(npy=edits.Npy())


def _route(folder, frames=3):
  fixtures.write_route(folder, frames=frames)


def _source(folder):
  return raw_routes.RawRoutes(str(folder), str(folder / "labels"))


def _annotation(folder):
  _annotated(0).make(folder)


def _read_annotation(folder):
  path = str(folder / "frame.json.gz")
  for nan_heading in ("box", "zero"):
    numbers = frame_numbers.read(path, nan_heading)
    assert np.isfinite(np.array(numbers, np.float64)).all()


def _label_rules_of(folder):
  """A route whose frames have all that the label rules ask for."""
  for path in sorted((folder / NAME / "anno").iterdir()):
    t = int(path.name[:5])
    fixtures.write_frame(folder / NAME, t, rich_frame(t))


def rich_frame(t):
  """An annotation with an ego, a car, a light and a sign."""
  content = fixtures.frame(t)
  ego = content["bounding_boxes"][0]
  x, y, z = ego["location"]
  place = dict(road_id=4, section_id=0, lane_id=-1)
  ego |= place | {"id": "7", "type_id": "vehicle.lincoln", "speed": 5.0,
                  "world2ego": [[1, 0, 0, -x], [0, 1, 0, -y], [0, 0, 1, -z],
                                [0, 0, 0, 1]]}
  box = lambda kind, dx, **kw: place | {
      "class": kind, "id": "9", "type_id": f"{kind}.a", "base_type": "car",
      "location": [x + dx, y, z], "rotation": [0.0, 0.0, 90.0], "speed": 2.0,
      "state": "dynamic", "num_points": 9, "distance": dx,
      "affects_ego": True, "trigger_volume_location": [x, y, z]} | kw
  content["bounding_boxes"] += [
      box("vehicle", 9.0), box("walker", 12.0), box("traffic_light", 20.0,
                                                    state=1),
      box("traffic_sign", 15.0, type_id="traffic.stop")]
  return content | {
      "brake": 0, "only_ap_brake": False, "command_near": 4,
      "x_command_near": x + 5, "y_command_near": y}


def _annotated(frames):
  def make(folder):
    if not frames:
      fixtures.write_route(folder / "r", frames=1)
      shutil.copy(folder / "r" / NAME / "anno" / "00000.json.gz",
                  folder / "frame.json.gz")
      shutil.rmtree(folder / "r")
      return
    _route(folder, frames)
    _label_rules_of(folder)
  return Reader("", make, {}, None)


def _read_route(folder):
  route = bench2drive.read_route(str(folder), NAME, str(folder / "labels"))
  for kind in ("camera", "skill"):
    files.read(str(folder / "labels"), kind, NAME)
  assert len(route) == 3


def _make_generated(folder):
  _annotated(2).make(folder)
  shutil.rmtree(folder / "labels")
  generate.write_route(NAME, root=str(folder), out=str(folder / "labels"))


def _generate(folder):
  generate.write_route(NAME, root=str(folder), out=str(folder / "labels"))
  annotations.read_frames(str(folder), NAME)
  generate.label_route(str(folder), NAME)


def _verify(folder):
  report = verify_raw.check(str(folder), str(folder / "labels"),
                            val_list=str(folder / "val.txt"), everything=True)
  for fault in report.faults:
    assert len(fault.message) < 2000


def _verifiable(folder):
  _route(folder, 2)
  (folder / "val.txt").write_text(NAME + "\n")


def _split(folder):
  bench2drive.split([NAME], val_list=str(folder / "val.txt"))


def _val_list(folder):
  (folder / "val.txt").write_text(NAME + "\n")


def _picture(folder):
  (folder / "a.jpg").write_bytes(fixtures.jpeg(0, 0))
  (folder / "a.png").write_bytes(records.encode_image(
      np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3), "png"))


def _load_picture(folder):
  for name in ("a.jpg", "a.png"):
    assert images.load(str(folder / name), 6).shape == (6, 6, 3)


def _prepared(folder):
  for i, frames in enumerate((4, 3)):
    fixtures.write_route(folder / "raw", fixtures.NAME.format(i),
                         frames=frames)
  prepare.prepare(_source(folder / "raw"), str(folder / "out"), OPTIONS,
                  {fixtures.NAME.format(1)}, say=lambda line: None)


def _prepared_files(folder):
  shards = (folder / "out").rglob("*array_record*")
  return {"out/manifest.json": JSON, "out/index.npz": NPZ,
          "out/statistics_h2.json": JSON} | {
      str(path.relative_to(folder)): edits.Bytes()
      for path in sorted(shards) if "train" in path.name}


def _read_prepared(folder):
  out = str(folder / "out")
  data = prepared.Prepared(out)
  names = data.names()
  data.collect(names, history=2, horizon=2)
  shards = prepared.Shards(out)
  shards.check_size(8)
  for name in names:
    for t in range(min(3, data.routes[name]["frames"])):
      shards.pixels(name, t, records.IMAGES[:2], 8)
  normalize.load(str(folder / "out" / "statistics_h2.json"), 2)


def _verify_prepared(folder):
  if prepared.is_prepared(str(folder / "out")):
    report = verify_prepared.check(str(folder / "out"), everything=True)
    for fault in report.faults:
      assert len(fault.message) < 2000


def _prepare_again(folder):
  if not prepared.is_prepared(str(folder / "out")):
    return  # it would be made anew, which takes its time
  prepare.prepare(_source(folder / "raw"), str(folder / "out"), OPTIONS,
                  {fixtures.NAME.format(1)}, say=lambda line: None)


def _record(folder):
  route = bench2drive.Route(
      NAME, np.zeros((1, 2)), np.zeros(1), np.zeros(1), np.zeros((1, 3)),
      np.zeros((1, 3)), np.zeros((1, 2)), None, None)
  (folder / "record").write_bytes(records.encode(records.of_route(
      route, 0, dict.fromkeys(records.IMAGES, b"image"))))


def _read_record(folder):
  path = folder / "record"
  data = path.read_bytes() if path.is_file() else b""
  try:
    record = records.decode(data)
    for key in records.FIELDS:
      records.number(record, key)
  except ValueError:
    pass  # what its callers catch and name


def _staged(folder):
  _route(folder / "raw", 3)
  (folder / "stage").mkdir()
  stage.stage_route(_source(folder / "raw"), str(folder / "stage"), 8, "jpeg",
                    NAME)
  (folder / "stage" / (BAD + stage.NOTE)).write_text(
      json.dumps({"why": "a reason", "misaligned": False}))


def _read_staged(folder):
  place = str(folder / "stage")
  stage.staged(_source(folder / "raw"), place, 8, "jpeg", [NAME])
  if (folder / "stage" / (NAME + stage.SUFFIX)).is_file():
    with stage.RouteFile(place, NAME) as file:
      list(file.records())
  stage.unusable(place, [BAD])


def _statistics(folder):
  normalize.OFFICIAL_H10.save(str(folder / "statistics.json"))


def _read_statistics(folder):
  found = normalize.load(str(folder / "statistics.json"), 10)
  for kind in normalize.COLUMNS:
    low, high = found.bounds(kind)
    assert np.isfinite(low).all() and np.isfinite(high).all()
    assert (high > low).all()


def _nuscenes(folder):
  nuscenes_tree.write(folder, pictures=8)
  nuscenes.index(str(folder), "v1.0-test", str(folder / "scenes"))


def _nuscenes_files(folder):
  found = [*(folder / "v1.0-test").iterdir(), *(folder / "scenes").iterdir()]
  return {str(path.relative_to(folder)): JSON for path in sorted(found)}


def _index_nuscenes(folder):
  source = nuscenes.NuScenes(str(folder), str(folder / "scenes"))
  _read_scenes(source)
  shutil.rmtree(folder / "scenes")
  _read_scenes(nuscenes.index(
      str(folder), "v1.0-test", str(folder / "scenes")))


def _read_scenes(source):
  for name in source.names():
    source.version(name)
    count = source.length(name)
    route = source.read(name)
    assert len(route) == count
    source.pixels(name, "rgb_front", 0, 4)
    source.pixels(name, "rgb_back", count - 1, 4)


def _tokenizer(folder):
  vocab = {"<bos>": 2, "\n": 5, "a": 6, "b": 7, "ab": 8} | {
      f"<0x{i:02X}>": 100 + i for i in range(256)}
  (folder / "tokenizer.json").write_text(json.dumps({
      "model": {"vocab": vocab, "merges": ["a b"]},
      "added_tokens": [{"content": "<bos>", "id": 2}]}))
  (folder / "tokenizer.model").write_bytes(b"".join(
      _field(1, _field(1, text.encode()) + b"\x15\0\0\x80\xbf" + (
          b"\x18\1" if len(text) < 3 else b"\x18\2")) for text in vocab))


def _field(number, content):
  size, varint = len(content), bytearray()
  while size > 127:
    varint.append(size & 127 | 128)
    size >>= 7
  varint.append(size)
  return bytes([number * 8 + 2]) + bytes(varint) + content


def _read_tokenizer(folder):
  for name in ("tokenizer.json", "tokenizer.model"):
    ids = tokenizer.prompt_ids("abba \u00e9", str(folder / name))
    assert all(type(i) is int and i >= 0 for i in ids)


def _key(folder):
  (folder / "key").write_text("a key\n")


def _read_key(folder):
  wire.read_key(str(folder / "key"))


READERS = (
    Reader("annotation", _annotation, {"frame.json.gz": GZIP},
           _read_annotation, share=8, quick=20),
    Reader("route", _route, lambda folder: {
        f"{NAME}/anno/00001.json.gz": GZIP,
        f"labels/camera_labels/{NAME}.json": JSON,
        f"labels/scenario_labels/{NAME}.json": JSON}, _read_route, share=3),
    Reader("label rules", _make_generated, lambda folder: {
        f"{NAME}/anno/00001.json.gz": GZIP,
        f"labels/label_rules/{NAME}.json": JSON,
        f"labels/camera_labels/{NAME}.json": JSON}, _generate, share=0.5,
        changes=True, quick=13),
    Reader("verify raw", _verifiable, lambda folder: {
        f"{NAME}/anno/00001.json.gz": GZIP, "val.txt": edits.Bytes(),
        f"labels/camera_labels/{NAME}.json": JSON,
        f"{NAME}/camera/rgb_back/00000.jpg": edits.Bytes()}, _verify, share=1),
    Reader("validation list", _val_list, {"val.txt": edits.Bytes()}, _split,
           share=3),
    Reader("picture", _picture, {"a.jpg": edits.Bytes(),
                                 "a.png": edits.Bytes()}, _load_picture,
           share=8, quick=20),
    Reader("record", _record, {"record": edits.Bytes()}, _read_record,
           share=8, quick=20),
    Reader("prepared", _prepared, _prepared_files, _read_prepared, share=2,
           quick=20),
    Reader("verify prepared", _prepared, _prepared_files, _verify_prepared,
           share=0.5, quick=5),
    Reader("prepare again", _prepared, lambda folder: {
        "out/manifest.json": JSON, "out/.lock": edits.Bytes(),
        f"raw/labels/camera_labels/{NAME}.json": JSON}, _prepare_again,
        share=0.1, quick=1, changes=True),
    Reader("staged", _staged, lambda folder: {
        f"stage/{NAME}{stage.SUFFIX}": edits.Bytes(),
        f"stage/{BAD}{stage.NOTE}": JSON},
        _read_staged, share=2),
    Reader("statistics", _statistics, {"statistics.json": JSON},
           _read_statistics, share=8, quick=20),
    Reader("nuscenes", _nuscenes, _nuscenes_files, _index_nuscenes, share=0.3,
           quick=13, changes=True),
    Reader("tokenizer", _tokenizer, {"tokenizer.json": JSON,
                                     "tokenizer.model": edits.Bytes()},
           _read_tokenizer, share=5, quick=13),
    Reader("key", _key, {"key": edits.Bytes()}, _read_key, share=2,
           quick=3),
)
