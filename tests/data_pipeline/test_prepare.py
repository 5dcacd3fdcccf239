"""Prepared folders: same samples as raw, same bytes however they were made,
and nothing that looks whole too early."""

import fcntl
import itertools
import json
import os
import pathlib
import resource

import numpy as np
import pytest

from data_pipeline import (
    bench2drive,
    errors,
    loader,
    normalize,
    pack,
    prepare,
    prepared,
    raw_routes,
    records,
    spec,
    stage,
    windows,
)
from tests.data_pipeline import fixtures

SIZE, HORIZONS = 12, (5, 6)
OPTIONS = prepare.Options(size=SIZE, encoding="png", horizons=HORIZONS,
                          frames_per_shard=10)
LENGTHS = (9, 12, 8, 7)
NAMES = [fixtures.NAME.format(i) for i in range(len(LENGTHS))]
VAL = {NAMES[2]}
TEXT = dict(image_size=SIZE, prompt_ids=(2, 5, 7), text_len=6)


def write_routes(root):
  for name, frames in zip(NAMES, LENGTHS, strict=True):
    fixtures.write_route(root, name, frames=frames)
  return raw_routes.RawRoutes(str(root), str(root / "labels"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return write_routes(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
  """A prepared folder; read only."""
  out = tmp_path_factory.mktemp("whole")
  make(source, out)
  return out


def make(source, out, options=OPTIONS, **kw):
  said = []
  manifest = prepare.prepare(source, str(out), options, VAL,
                             say=said.append, **kw)
  return manifest, said


def contents(out):
  """{relative path: bytes} of all files in a finished folder."""
  return {str(path.relative_to(out)): path.read_bytes()
          for path in pathlib.Path(out).rglob("*") if path.is_file()}


def collect(source, out, names, **options):
  raw = windows.collect(source.root, source.labels_root, names, **options)
  return raw, prepared.Prepared(str(out)).collect(names, **options)


def test_windows_of_prepared_and_raw_routes_are_equal(source, whole):
  assert prepared.Prepared(str(whole)).names() == source.names()
  for options in (dict(horizon=5), dict(horizon=6, history=3),
                  dict(horizon=5, wrap_theta=False)):
    raw, ours = collect(source, whole, NAMES, **options)
    for key in ("routes", "route_index", *windows.SAMPLE_ARRAYS):
      np.testing.assert_array_equal(getattr(raw, key), getattr(ours, key))


def test_batches_from_lossless_records_are_those_from_raw_files(source, whole):
  raw, ours = collect(source, whole, NAMES[:2], horizon=5)
  statistics = normalize.compute(raw)
  train = lambda data, **kw: list(itertools.islice(loader.train_batches(
      data, statistics, batch_size=4, seed=3, **TEXT, **kw), 6))
  check = lambda data: list(loader.eval_batches(
      data, statistics, batch_size=4, **TEXT))
  for budget in (0.0, 1.0):
    for one, other in zip(
        train(raw) + check(raw),
        train(ours, ram_budget_gb=budget) + check(ours), strict=True):
      for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_unlabelled_routes_stay_unlabelled(source, tmp_path):
  bare = raw_routes.RawRoutes(source.root)
  manifest, _ = make(bare, tmp_path)
  assert manifest["windows"]["5"]["train"]["skill"] is None
  _, ours = collect(bare, tmp_path, NAMES, horizon=5)
  assert ours.camera is None and ours.skill is None


def test_bytes_do_not_depend_on_the_number_of_workers(source, whole, tmp_path):
  make(source, tmp_path, workers=2)
  assert contents(tmp_path) == contents(whole)


def test_folders_of_two_processes_are_the_same(
    source, whole, tmp_path, monkeypatch):
  pid = os.getpid()
  monkeypatch.setattr(os, "getpid", lambda: pid + 1)
  make(source, tmp_path)
  assert contents(tmp_path) == contents(whole)
  assert contents(whole)[".lock"] == b""


def test_bytes_do_not_depend_on_beam(source, whole, tmp_path):
  pytest.importorskip("apache_beam")
  make(source, tmp_path, beam=["--runner=DirectRunner"])
  ours, theirs = contents(tmp_path), contents(whole)
  assert {k: v for k, v in ours.items() if "/" not in k} == {
      k: v for k, v in theirs.items() if "/" not in k}
  shards = [k for k in theirs if "array_record" in k]
  assert len(shards) == 3 and all(ours[k] == theirs[k] for k in shards)


def test_the_manifest_counts_what_there_is(whole):
  manifest = prepared.read_manifest(str(whole))
  assert manifest["frames"] == sum(LENGTHS)
  # N - H windows of every route; route 2 is for validation.
  assert manifest["windows"]["5"]["train"]["windows"] == 4 + 7 + 2
  assert manifest["windows"]["6"]["val"]["windows"] == 2
  assert manifest["windows"]["5"]["val"]["skill"] == [0] * 6 + [3]
  # Routes stay whole: 9 + 12 frames, 7, and the validation route.
  assert [s["records"] for s in manifest["shards"]] == [21, 7, 8]
  places = [(r["name"], r["split"], r["first"]) for r in manifest["routes"]]
  assert places == [(NAMES[0], "train", 0), (NAMES[1], "train", 9),
                    (NAMES[3], "train", 0), (NAMES[2], "val", 0)]
  for shard in manifest["shards"]:
    path = whole / shard["file"]
    assert path.stat().st_size == shard["bytes"]


def test_statistics_are_those_of_the_training_windows(source, whole):
  for horizon in HORIZONS:
    raw, _ = collect(source, whole, [n for n in NAMES if n not in VAL],
                     horizon=horizon)
    path = whole / normalize.file_name(horizon)
    assert normalize.load(str(path), horizon) == normalize.compute(raw)


def test_a_short_route_has_no_windows_of_a_long_horizon(source, tmp_path):
  manifest, _ = make(source, tmp_path, prepare.Options(
      size=SIZE, horizons=(8,)))
  assert manifest["windows"]["8"]["train"]["windows"] == 1 + 4
  assert manifest["windows"]["8"]["train"]["too_short"] == [NAMES[3]]
  assert manifest["windows"]["8"]["val"]["windows"] == 0
  data = prepared.Prepared(str(tmp_path))
  with pytest.raises(errors.DataError, match="has 8 frames.*horizon of 8"):
    data.collect(NAMES, horizon=8)
  kept = data.collect(NAMES, horizon=8, on_bad_record="skip", skip_cap=0.5)
  assert len(kept) == 5 and [n for n, _ in kept.skipped] == NAMES[2:]
  with pytest.raises(errors.DataError, match="2 bad routes.*allows 1.*raise"):
    data.collect(NAMES, horizon=8, on_bad_record="skip", skip_cap=0.25)


def test_tensorflow_datasets_reads_the_records(source, whole):
  import tensorflow_datasets as tfds
  builder = tfds.builder_from_directory(str(whole / pack.SHARDS / "1.0.0"))
  data = builder.as_data_source("train")
  assert len(data) == 28 and len(builder.as_data_source("val")) == 8
  example, route = data[10], source.read(NAMES[1])
  assert example["route"].decode() == NAMES[1] and example["frame"] == 1
  for key in records.NUMBERS:
    np.testing.assert_array_equal(example[key], getattr(route, key)[1])
  np.testing.assert_array_equal(
      example["rgb_back"], source.pixels(NAMES[1], "rgb_back", 1, SIZE))


class Killed(BaseException):
  """Stands for the end of the process."""


def test_a_kill_at_any_rename_leaves_no_trace(source, whole, tmp_path,
                                              monkeypatch):
  """The n-th file to get its name does not; then the command runs again."""
  replace, want = os.replace, contents(whole)
  for last in itertools.count():
    out, left = tmp_path / str(last), last

    def dies(*args):
      nonlocal left
      if left == 0:
        raise Killed
      left -= 1
      replace(*args)

    monkeypatch.setattr(os, "replace", dies)
    try:
      make(source, out)
      break  # it takes fewer renames than this
    except Killed:
      assert not prepared.is_prepared(out)
    monkeypatch.setattr(os, "replace", replace)
    make(source, out)
    assert contents(out) == want
  assert last == len(NAMES) + len(HORIZONS) + 2  # index and manifest


def test_a_kill_while_packing_leaves_no_trace(source, whole, tmp_path,
                                              monkeypatch):
  from data_pipeline import builder
  encode, left = records.encode, 40

  def dies(record):
    nonlocal left
    left -= 1
    if left == 0:
      raise Killed
    return encode(record)

  monkeypatch.setattr(records, "encode", dies)  # 36 records are staged first
  with pytest.raises(Killed):
    make(source, tmp_path)
  assert not (tmp_path / pack.SHARDS / "1.0.0").exists()
  monkeypatch.setattr(records, "encode", encode)
  monkeypatch.setattr(
      stage, "write_records", lambda *_: pytest.fail("staged twice"))
  make(source, tmp_path)
  assert contents(tmp_path) == contents(whole)
  assert builder.DrivemoeFrames.name == pack.SHARDS


def test_a_second_run_does_what_is_missing(source, tmp_path, monkeypatch):
  write, made = stage.write_records, []

  def counts(path, *args):
    made.append(args[-1])
    if len(made) == 3:
      raise Killed
    write(path, *args)

  monkeypatch.setattr(stage, "write_records", counts)
  with pytest.raises(Killed):
    make(source, tmp_path)
  made.append("again")
  _, said = make(source, tmp_path)
  assert made == [*NAMES[:3], "again", *NAMES[2:]]
  assert f"{sum(LENGTHS)} frames, {sum(LENGTHS[2:])} to do" in said[0]
  assert "estimate" in said[0] and "GB free" in said[0]


def test_a_staged_route_is_redone_when_it_does_not_fit(tmp_path, monkeypatch):
  source = write_routes(tmp_path / "routes")
  out = tmp_path / "out"
  folder = out / "stage"
  monkeypatch.setattr(pack, "pack", lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    make(source, out)
  wanted = source, str(folder), SIZE, "png", NAMES
  assert stage.staged(*wanted) == set(NAMES)
  assert stage.staged(*wanted[:2], SIZE + 1, "png", NAMES) == set()
  assert stage.staged(*wanted[:3], "jpeg", NAMES) == set()
  path = folder / f"{NAMES[0]}{stage.SUFFIX}"
  path.write_bytes(path.read_bytes()[:-9])
  fixtures.write_labels(tmp_path / "routes" / "labels", NAMES[1],
                        ["NULL"] * 12, ["OVERTAKING"] * 12)
  assert stage.staged(*wanted) == set(NAMES[2:])


def test_a_finished_folder_is_left_alone(source, whole, tmp_path):
  before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")
            if p.name not in (".lock", "stage") and p != whole}
  _, said = make(source, whole)
  assert said == [f"prepare: {whole} is finished, 4 routes"]
  assert before == {p: p.stat().st_mtime_ns for p in before}
  with pytest.raises(errors.ConfigError, match="size 12, now 8"):
    make(source, whole, prepare.Options(size=8, encoding="png",
                                        horizons=HORIZONS))
  with pytest.raises(errors.ConfigError, match="nan_heading box, now zero"):
    make(raw_routes.RawRoutes(source.root, source.labels_root, "zero"), whole)
  with pytest.raises(errors.ConfigError, match=f"{NAMES[2]} in val, now"):
    prepare.prepare(source, str(whole), OPTIONS, set())
  with pytest.raises(errors.ConfigError, match=f"labels of {NAMES[0]}"):
    make(raw_routes.RawRoutes(source.root), whole)


def test_two_at_once_are_told_apart(source, tmp_path):
  with open(tmp_path / ".lock", "w", encoding="utf-8") as file:
    file.write("4321")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    with pytest.raises(errors.ConfigError, match="by process 4321; wait"):
      make(source, tmp_path)
  make(source, tmp_path)


def spoiled(tmp_path, *names):
  """Routes of which some have a frame that is no JPEG."""
  source = write_routes(tmp_path / "routes")
  for name in names:
    path = tmp_path / "routes" / name / "camera" / "rgb_back" / "00003.jpg"
    path.write_bytes(path.read_bytes()[:300])
  return source


def test_a_bad_route_stops_the_end_not_the_work(tmp_path):
  source, out = spoiled(tmp_path, NAMES[1]), tmp_path / "out"
  with pytest.raises(errors.DataError, match="1 of 4 routes.*00003.jpg"):
    make(source, out)
  assert not prepared.is_prepared(out)
  good = stage.staged(source, str(out / "stage"), SIZE, "png", NAMES)
  assert good == set(NAMES) - {NAMES[1]}
  fixtures.write_route(tmp_path / "new", NAMES[1], frames=LENGTHS[1])
  (tmp_path / "new" / NAMES[1] / "camera/rgb_back/00003.jpg").replace(
      tmp_path / "routes" / NAMES[1] / "camera/rgb_back/00003.jpg")
  manifest, _ = make(source, out)
  assert manifest["skipped"] == {}


def test_skipped_routes_are_listed_with_their_reason(tmp_path):
  source, out = spoiled(tmp_path, NAMES[1]), tmp_path / "out"
  manifest, _ = make(source, out, on_bad_record="skip")
  assert list(manifest["skipped"]) == [NAMES[1]]
  assert "rgb_back/00003.jpg" in manifest["skipped"][NAMES[1]]
  assert prepared.Prepared(str(out)).names() == [
      n for n in NAMES if n != NAMES[1]]
  source = spoiled(tmp_path / "two", NAMES[0], NAMES[1])
  with pytest.raises(errors.DataError, match="2 of 4 routes.*allows 1"):
    make(source, tmp_path / "more", on_bad_record="skip")


def test_labels_of_other_frames_are_never_skipped(tmp_path):
  source = write_routes(tmp_path)
  fixtures.write_labels(tmp_path / "labels", NAMES[0], ["NULL"] * 8,
                        ["NORMAL"] * 8)
  with pytest.raises(bench2drive.MisalignedError, match="labels 8 frames"):
    make(source, tmp_path / "out", on_bad_record="skip")


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    source, tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
  try:
    with pytest.raises(errors.StorageError, match="cannot be written") as full:
      make(source, tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert full.value.status == 4 and "\n" not in str(full.value)
  assert list((tmp_path / "stage").iterdir()) == []
  make(source, tmp_path)


def test_options_that_cannot_be(source, tmp_path):
  with pytest.raises(errors.ConfigError, match="'webp'.*png, jpeg"):
    prepare.Options(encoding="webp")
  with pytest.raises(errors.ConfigError, match="must be positive"):
    prepare.Options(size=0)
  with pytest.raises(errors.DataError, match="no sample.*horizon"):
    make(source, tmp_path, prepare.Options(size=SIZE, horizons=(12,)))


def copied(whole, tmp_path):
  for name, content in contents(whole).items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return str(tmp_path)


def read_all(root):
  data = prepared.Prepared(root).collect(NAMES, horizon=5)
  return list(loader.eval_batches(
      data, normalize.compute(data), batch_size=4, **TEXT))


def test_a_flipped_byte_is_found_where_it_is(whole, tmp_path):
  root = copied(whole, tmp_path)
  path = next(tmp_path.rglob("*train*00000-of-00002"))
  data = bytearray(path.read_bytes())
  # Frame 2 of route 1 is record 11, somewhere in the second half.
  image = records.encode_image(fixtures_pixels(1, 2), "png")
  data[data.index(image) + len(image) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(errors.DataError, match=(
      f"00000-of-00002 record 11 .{NAMES[1]} frame 2. is damaged.*"
      "verify_data")):
    read_all(root)
  data = prepared.Prepared(root).collect(NAMES, horizon=5)
  batches = list(loader.eval_batches(
      data, normalize.compute(data), batch_size=4, on_bad_record="skip",
      **TEXT))
  valid = np.concatenate([b["valid"] for b in batches])[:len(data)]
  # Frame 2 is lost, and with it the past of frame 3.
  assert [(data.route_index[i], data.frame[i])
          for i in np.flatnonzero(~valid)] == [(1, 2), (1, 3)]


def fixtures_pixels(route, frame):
  from data_pipeline import images
  return images.decode(fixtures.jpeg(0, frame, salt=NAMES[route]), SIZE)


@pytest.mark.parametrize("spoil, match", [
    (lambda p: p.write_bytes(p.read_bytes()[:70000]), "cut short"),
    (lambda p: p.write_bytes(b""), "cut short"),
    (lambda p: p.unlink(), "cannot be opened|cut short")])
def test_a_shard_cut_short_is_found(whole, tmp_path, spoil, match):
  root = copied(whole, tmp_path)
  spoil(next(tmp_path.rglob("*train*00001-of-00002")))
  with pytest.raises(errors.DataError, match=f"00001-of-00002.*({match})"):
    read_all(root)


def test_a_manifest_of_another_version_is_refused(whole, tmp_path):
  root = copied(whole, tmp_path)
  path = tmp_path / prepared.MANIFEST
  manifest = json.loads(path.read_text())
  path.write_text(json.dumps(manifest | {"format": 2}))
  with pytest.raises(errors.DataError, match="format 2.*reads format 1"):
    read_all(root)
  path.write_text("{")
  with pytest.raises(errors.DataError, match="is no manifest"):
    read_all(root)
  path.unlink()
  assert not prepared.is_prepared(root)
  with pytest.raises(errors.DataError, match="start it again to finish"):
    prepared.Prepared(root)


def test_an_index_of_other_data_is_refused(whole, tmp_path):
  root = copied(whole, tmp_path)
  (tmp_path / prepared.INDEX).write_bytes(b"PK")
  with pytest.raises(errors.DataError, match="index.npz cannot be read"):
    prepared.Prepared(root)
  with open(tmp_path / prepared.INDEX, "wb") as file:
    np.savez(file, **{key: np.zeros(3) for key in records.FIELDS})
  with pytest.raises(errors.DataError, match="3 rows.*36 frames"):
    prepared.Prepared(root)


def test_a_run_must_fit_the_folder(whole):
  data = prepared.Prepared(str(whole))
  with pytest.raises(errors.ConfigError, match="'box'.*asks for 'zero'"):
    data.collect(NAMES, horizon=5, nan_heading="zero")
  cut = data.collect(NAMES, horizon=5)
  with pytest.raises(errors.ConfigError, match="side 12, the model takes 24"):
    loader.eval_batches(cut, normalize.compute(cut), batch_size=4,
                        **TEXT | {"image_size": 24})


def test_only_the_images_asked_for_are_decoded(whole, monkeypatch):
  from data_pipeline import frames, images
  data = prepared.Prepared(str(whole)).collect(NAMES, horizon=5)
  decode, count = images.decode, 0

  def counts(*args):
    nonlocal count
    count += 1
    return decode(*args)

  monkeypatch.setattr(images, "decode", counts)
  for budget, want in ((0.0, len(data) * 7 - len(NAMES)),  # frame 0 has no
                       (1.0, len(data) * 6)):              # other past
    store, count = frames.FrameStore(data, SIZE, budget), 0
    for index in range(len(data)):
      assert store.sample(index).shape == (len(spec.IMAGES), SIZE, SIZE, 3)
    assert count == want
