"""The prepare command: what it prints, and its exit codes."""

import shutil

import pytest

from data_pipeline import bench2drive, prepared
from launch import prepare
from tests.data_pipeline import fixtures


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  root = tmp_path_factory.mktemp("raw")
  for i, frames in enumerate((9, 12, 7)):
    fixtures.write_route(root, fixtures.NAME.format(i), frames=frames)
  (root / "val.txt").write_text(fixtures.NAME.format(1) + "\n")
  return root


def call(raw, out, *args):
  return prepare.main([str(a) for a in (
      "--root", raw, "--labels", raw / "labels", "--out", out, "--size", 12,
      "--horizons", 5, "--workers", 1, *args)])


def test_it_says_what_it_will_do_and_what_it_did(raw, tmp_path, capsys):
  out = tmp_path / "out"
  assert call(raw, out, "--val-list", raw / "val.txt",
              "--encoding", "png") == 0
  first, *_, last = capsys.readouterr().out.splitlines()
  assert "3 routes, 28 frames, 28 to do; estimate:" in first
  assert last.startswith(f"prepare: {out} holds 3 routes, 28 frames in 2 sha")
  manifest = prepared.read_manifest(str(out))
  assert manifest["options"]["encoding"] == "png"
  assert manifest["source"] == {"nan_heading": "box"}
  assert [r["split"] for r in manifest["routes"]] == ["train"] * 2 + ["val"]
  assert call(raw, out, "--val-list", raw / "val.txt",
              "--encoding", "png") == 0
  assert "is finished" in capsys.readouterr().out
  assert call(raw, out, "--val-list", raw / "val.txt") == 2
  assert "encoding png, now jpeg" in capsys.readouterr().err


def test_a_fraction_of_the_routes_is_held_out(raw, tmp_path):
  options = "--val-fraction", 0.3, "--seed", 4, "--nan-heading", "zero"
  assert call(raw, tmp_path, *options, "--frames-per-shard", 1) == 0
  manifest = prepared.read_manifest(str(tmp_path))
  names = bench2drive.list_routes(str(raw))
  _, val = bench2drive.split(names, val_fraction=0.3, seed=4)
  assert [r["name"] for r in manifest["routes"]
          if r["split"] == "val"] == val
  assert len(manifest["shards"]) == 3
  assert manifest["source"] == {"nan_heading": "zero"}


def test_a_first_route_without_frames_does_not_stop_the_others(raw, tmp_path,
                                                               capsys):
  routes = tmp_path / "routes"
  shutil.copytree(raw, routes)
  first = bench2drive.list_routes(str(routes))[0]
  for path in (routes / first / "anno").iterdir():
    path.unlink()
  out = tmp_path / "out"
  args = "--val-fraction", 0.5, "--labels", raw / "labels"
  assert call(routes, out, *args) == 3
  said = capsys.readouterr()
  assert "19 to do; estimate:" in said.out and first in said.err
  assert call(routes, out, *args, "--on-bad-record", "skip", "--skip-cap",
              0.5) == 0
  assert list(prepared.read_manifest(str(out))["skipped"]) == [first]


@pytest.mark.parametrize("flags, words", [
    ("--runner=DirectRunner", "needs Apache Beam"), ("'", "--beam ': No clos")])
def test_a_beam_that_cannot_run_is_told_first(tmp_path, monkeypatch, capsys,
                                              flags, words):
  there = None if "Apache" in words else object()
  monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda _: there)
  assert call(tmp_path / "nowhere", tmp_path, f"--beam={flags}") == 2
  assert words in capsys.readouterr().err


def test_errors_have_their_exit_codes(raw, tmp_path, capsys):
  assert call(raw, tmp_path / "a") == 3  # the list is of Base-1000
  assert "none of them among the 3" in capsys.readouterr().err
  (tmp_path / "file").write_text("")
  fraction = "--val-fraction", 0.3
  assert call(raw, tmp_path / "file", *fraction) == 4
  assert "E-DISK" in capsys.readouterr().err
  labels = raw / "labels" / "camera_labels" / f"{fixtures.NAME.format(0)}.json"
  text = labels.read_text()
  labels.unlink()
  try:
    assert call(raw, tmp_path / "b", *fraction) == 3
    assert "1 of 3 routes" in capsys.readouterr().err
    assert call(raw, tmp_path / "b", *fraction, "--on-bad-record", "skip",
                "--skip-cap", 0) == 3
    assert call(raw, tmp_path / "b", *fraction,
                "--on-bad-record", "skip") == 0
    assert f"{labels} is missing" in capsys.readouterr().out
  finally:
    labels.write_text(text)
