"""Two evaluations side by side; the protocol's text for one of them."""

import json

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators import open_loop, score, side_by_side, text


def evaluation(offset, *, horizon=21, windows=4, **changes):
  """What evaluation.json holds of a driver that is `offset` metres off."""
  gt = np.zeros((windows, horizon, 2))
  part = score.trajectory(
      gt + (0.0, offset), gt,
      score.masks(np.zeros(windows, bool), np.zeros(windows, bool)),
      np.full(windows, -1))
  digest = score.windows_sha256(["Route"] * windows, range(windows))
  yardstick = {"open_loop": part, "model_lower_by_percent": 0.0,
               "model_ratio": {}}
  return {
      "step": 9, "split": "val", "flow_steps": 10, "noise_scale": 1.0,
      "seed": 0, "n": windows,
      "routes": 1, "horizon": horizon, "hz": 10, "windows_sha256": digest,
      "open_loop": part | open_loop.official(gt + offset, gt, gt, gt, 2),
      "routers": {}, "shuffled_images": None,
      "yardsticks": {"constant_velocity": yardstick, "ego_mlp": yardstick},
  } | changes


def test_differences_are_second_minus_first():
  found = side_by_side.compare(evaluation(1.0), evaluation(0.25))
  for name in ("ade", "fde", "avg_l2", "official_l1"):
    assert found["metrics"][name]["difference"] == pytest.approx(-0.75), name
  assert [row["difference"] for row in found["protocol"]["at"]] == (
      pytest.approx([-0.75] * 4))
  said = side_by_side.table(found, ("a", "b"))
  assert "b - a: 4 windows" in said and "L2 mean up to 2.0 s" in said
  assert "-0.7500" in said and "W-DATA" not in said


def test_other_windows_are_refused_with_both_counts():
  with pytest.raises(errors.DataError,
                     match="4 val windows.*against 3 val windows.*--limit"):
    side_by_side.compare(evaluation(1.0), evaluation(1.0, windows=3))


def test_a_horizon_without_the_protocol_is_compared_without():
  found = side_by_side.compare(evaluation(1.0, horizon=10),
                               evaluation(2.0, horizon=10))
  assert found["protocol"] is None and "avg_l2" not in found["metrics"]
  assert "Avg" not in side_by_side.table(found, ("a", "b"))


@pytest.mark.parametrize("name, there, here", [
    ("flow_steps", 10, 5), ("noise_scale", 1.0, 0.5), ("seed", 0, 3)])
def test_other_settings_are_told(name, there, here):
  found = side_by_side.compare(evaluation(1.0), evaluation(1.0, **{name: here}))
  assert found["settings"] == {name: [there, here]}
  told = side_by_side.table(found, ("a", "b"))
  assert f"W-DATA: {name} is {there} against {here}" in told
  same = side_by_side.compare(evaluation(1.0), evaluation(1.0))
  assert not same["settings"] and "W-DATA" not in side_by_side.table(
      same, ("a", "b"))


def test_run_folders_and_files_are_read_alike(tmp_path):
  (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(1.0)))
  assert side_by_side.load(str(tmp_path)) == side_by_side.load(
      str(tmp_path / "evaluation.json"))


@pytest.mark.parametrize("content, match", [
    (None, "run launch.evaluate first"), ("{", "no whole JSON"),
    ("[]", "no evaluation with a window hash"),
    ('{"n": 3, "open_loop": {}}', "no evaluation with a window hash")])
def test_what_is_no_evaluation_is_refused(tmp_path, content, match):
  if content:
    (tmp_path / "evaluation.json").write_text(content)
  with pytest.raises(errors.DataError, match=match):
    side_by_side.load(str(tmp_path))


def test_the_text_prints_both_readings_for_every_method():
  said = text.table(evaluation(0.5))
  rows = {line[:34].strip(): line[34:].split() for line in said.splitlines()}
  for name in ("model", "constant velocity", "ego-state-only MLP"):
    assert rows[f"{name}, at t"] == ["0.5000"] * 5
    assert rows[f"{name}, mean up to t"] == ["0.5000"] * 4
  assert rows["L2 at 2 Hz [m]"] == "0.5 s 1.0 s 1.5 s 2.0 s Avg L2".split()
  assert "avg_l2 0.500 m" in said


@pytest.mark.parametrize("horizon", [10, 20])
def test_the_text_refuses_the_name_for_a_short_horizon(horizon):
  said = text.table(evaluation(0.5, horizon=horizon))
  assert f"no Avg L2: it needs the waypoint at 2.0 s, horizon 21, and this " \
         f"run has {horizon}" in said
  assert "mean up to" not in said
