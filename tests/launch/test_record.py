"""The record command: a small recording, and its exit codes."""

import json
import os

from launch import closed_loop, record
from tests import policies


def call(*args):
  return record.main([str(arg) for arg in args])


def test_it_records_and_says_what(tmp_path, capsys):
  out = tmp_path / "data"
  assert call("--out", out, "--scenarios", "TJunction", "--train-seeds", 1,
              "--val-seeds", 0, "--seed", 5, "--size", "64x36",
              "--workers", 1) == 0
  name, = os.listdir(out / "routes")
  assert name.startswith("TJunction_") and "_Route5_" in name
  assert "1 routes" in capsys.readouterr().out
  assert (out / "val_routes.txt").read_text().strip() == ""


def test_routes_of_a_handover_have_their_own_length(tmp_path, capsys):
  flags = ("--scenarios", "TJunction", "--train-seeds", 1, "--val-seeds", 0,
           "--seed", 5, "--size", "64x36", "--workers", 1)
  assert call("--out", tmp_path, *flags, "--handover-frames", 4) == 2
  assert "handover_frames 4" in capsys.readouterr().err
  assert call("--out", tmp_path, *flags, "--handover-frames", 6) == 0
  assert "1 routes, 6 frames" in capsys.readouterr().out


def test_a_recording_holds_another_one_and_bytes_follow_the_quality(tmp_path):
  flags = ("--scenarios", "TJunction", "--train-seeds", 1, "--val-seeds", 0,
           "--size", "64x36", "--workers", 1, "--max-frames", 2)
  first, both = tmp_path / "first", tmp_path / "both"
  assert call("--out", first, *flags, "--seed", 1, "--quality", 95) == 0
  assert call("--out", both, *flags, "--seed", 2, "--quality", 20,
              "--base", first) == 0
  size = lambda route: sum(f.stat().st_size for f in route.rglob("*.jpg"))
  one, two = sorted((both / "routes").iterdir())
  assert "_Route1_" in one.name and "_Route2_" in two.name
  assert size(two) < 0.6 * size(one)
  assert call("--out", tmp_path / "x", *flags, "--quality", 10) == 2


def test_a_run_may_drive_until_the_expert_takes_over(tmp_path, monkeypatch,
                                                     capsys):
  monkeypatch.setattr(closed_loop.build, "load_run", lambda *_: None)
  monkeypatch.setattr(closed_loop.policy.Policy, "of_run",
                      lambda *_, **kw: policies.make())
  run, out = tmp_path / "run", tmp_path / "data"
  flags = ("--out", out, "--scenarios", "TJunction", "--seed", 7,
           "--train-seeds", 2, "--val-seeds", 0, "--size", "64x36",
           "--workers", 1, "--max-frames", 9, "--learner", run)
  assert call(*flags) == 2
  assert "--learner hands over" in capsys.readouterr().err
  assert call(*flags, "--handover-frames", 6) == 0
  # Seed 8 is the expert's from the start.
  drive, = (run / "drives" / "model-9").glob("*_TJunction/drive.json")
  assert "2 routes, 15 frames" in capsys.readouterr().out
  assert len(json.loads(drive.read_text())["controls"]) > 100
  plan = json.loads((out / "dataset.json").read_text())["plan"]
  assert plan["drives"]["driver"] == policies.make().metadata
  # A drive tells what led to its first infraction, and no more.
  assert plan["drives"]["until_fault"]
  record = json.loads((drive.parent / "record.json").read_text())
  assert record["num_infractions"] <= 1
  assert call(*flags, "--handover-frames", 6) == 0  # costs nothing again


def test_user_errors_have_their_exit_codes(tmp_path, capsys):
  assert call("--out", tmp_path / "x", "--scenarios", "TJunctio") == 2
  assert "'TJunction'" in capsys.readouterr().err
  assert call("--out", tmp_path / "x", "--size", "320*180") == 2
  assert "320x180" in capsys.readouterr().err
  (tmp_path / "file").write_text("")
  assert call("--out", tmp_path, "--train-seeds", 1) == 3
  assert "E-DATA" in capsys.readouterr().err
