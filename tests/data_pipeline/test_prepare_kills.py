"""Preparing, stopped and begun again: nothing looks whole too early."""

import fcntl
import itertools
import os
import resource

import pytest

from data_pipeline import (
    errors,
    pack,
    prepare,
    prepared,
    raw_routes,
    records,
    stage,
)
from tests.data_pipeline import fixtures
from tests.data_pipeline.prepared_folders import (
    HORIZONS,
    LENGTHS,
    NAMES,
    OPTIONS,
    SIZE,
    contents,
    make,
    write_routes,
)


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
