"""Prepared folders: same samples as raw, same bytes however they were made."""

import itertools
import os
import shutil

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
    stage,
    windows,
)
from tests.data_pipeline import fixtures
from tests.data_pipeline.prepared_folders import (
    HORIZONS,
    LENGTHS,
    NAMES,
    SIZE,
    TEXT,
    VAL,
    contents,
    make,
    write_routes,
)


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
  # A finished folder without some routes is no answer to "all of them".
  with pytest.raises(errors.ConfigError, match=f"without 1.*{NAMES[1]}"):
    make(source, out)
  assert make(source, out, on_bad_record="skip")[0] == manifest
  shutil.rmtree(tmp_path / "routes" / NAMES[2])
  with pytest.raises(errors.ConfigError, match=f"not there.*{NAMES[2]}"):
    make(source, out, on_bad_record="skip")
  source = spoiled(tmp_path / "two", NAMES[0], NAMES[1])
  with pytest.raises(errors.DataError, match="2 of 4 routes.*allows 1"):
    make(source, tmp_path / "more", on_bad_record="skip")


def test_labels_of_other_frames_are_never_skipped(tmp_path):
  source = write_routes(tmp_path)
  fixtures.write_labels(tmp_path / "labels", NAMES[0], ["NULL"] * 8,
                        ["NORMAL"] * 8)
  with pytest.raises(bench2drive.MisalignedError, match="labels 8 frames"):
    make(source, tmp_path / "out", on_bad_record="skip")


def test_options_that_cannot_be(source, tmp_path):
  with pytest.raises(errors.ConfigError, match="'webp'.*png, jpeg"):
    prepare.Options(encoding="webp")
  for bad in ({"size": 0}, {"horizons": (10, 0)}, {"horizons": ()},
              {"history": 0}):
    with pytest.raises(errors.ConfigError, match="must be positive"):
      prepare.Options(**bad)
  for bad in ({"workers": 0}, {"skip_cap": -1}, {"skip_cap": 2}):
    with pytest.raises(errors.ConfigError, match=f"{min(bad)} "):
      make(source, tmp_path, **bad)
  with pytest.raises(errors.DataError, match="no sample.*horizon"):
    make(source, tmp_path, prepare.Options(size=SIZE, horizons=(12,)))
