"""`evaluate --closed-loop` as a command: refusals, files, the same twice."""

import hashlib
import json
import os

import pytest

from data_pipeline.miniworld import names
from drivemoe_jax import serve
from drivemoe_jax.evaluators.closed_loop import robustness
from launch import closed_loop, evaluate, score
from tests import fake_policy, policies


def call(*args):
  return evaluate.main([str(arg) for arg in args])


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run folder whose policy is one of random parameters."""
  settings = type("Config", (), {"data": type("Data", (), {"record": None})})
  monkeypatch.setattr(closed_loop.build, "load_config", lambda _: settings)
  monkeypatch.setattr(closed_loop.build, "load_run", lambda *_: None)
  monkeypatch.setattr(closed_loop.policy.Policy, "of_run",
                      lambda *_, **kw: policies.make())
  monkeypatch.setattr(closed_loop, "SIZE", (64, 36))
  return tmp_path


@pytest.mark.parametrize("args, status, words", [
    (["--scenarios", "TJunctio"], 2, "TJunctio"),
    (["--episodes", 0], 2, "must be positive"),
    (["--first-seed", 9000], 2, "test seeds"),
    (["--film", "film.avi"], 2, ".gif or .mp4"),
    (["--compare", "a", "b"], 2, "no run")])
def test_what_cannot_be_driven_is_refused(run, capsys, args, status, words):
  what = [] if "--compare" in args else ["--workdir", run]
  assert call(*what, "--closed-loop", *args) == status
  error = capsys.readouterr().err
  assert words in error and error.startswith("E-CONFIG")
  assert not os.path.exists(run / "closed_loop")


@pytest.mark.parametrize("flag", [
    ["--episodes", 3], ["--first-seed", 20000], ["--workers", 1],
    ["--robustness"], ["--film", "film.gif"]])
def test_flags_of_the_loop_need_it(run, capsys, flag):
  assert call("--workdir", run, *flag) == 2
  assert f"{flag[0]} is for --closed-loop" in capsys.readouterr().err


@pytest.mark.parametrize("flags, words", [
    (["--limit", 3], "--limit is not for --closed-loop"),
    (["--split", "val"], "--split is not"), (["--report"], "--report is not"),
    (["--batch-size", 8], "--batch-size is not"),
    (["--against", "h:1", "--step", 5], "--step is the server's"),
    (["--against", "h:1", "--seed", 0], "--seed is the server's"),
    (["--api-key-file", "key"], "for --against"),
    (["--seed", -1], "--seed -1")])
def test_flags_without_an_effect_are_refused(run, capsys, flags, words):
  assert call("--workdir", run, "--closed-loop", *flags) == 2
  assert words in capsys.readouterr().err


@pytest.mark.parametrize("flag", [
    ["--report"], ["--limit", 3], ["--split", "val"], ["--step", 5],
    ["--seed", 0], ["--steps", 3], ["--noise-scale", 0], ["--closed-loop"]])
def test_flags_of_a_run_are_not_for_a_comparison(run, capsys, flag):
  assert call("--compare", run, run, *flag) == 2
  assert f"{flag[0]} is not for --compare" in capsys.readouterr().err


def test_no_server_is_told(run, capsys, monkeypatch):
  monkeypatch.setattr(closed_loop, "WAIT_S", 0.0)
  assert call("--workdir", run, "--closed-loop", "--against",
              "127.0.0.1:9") == 6
  assert "127.0.0.1:9" in capsys.readouterr().err


def test_a_policy_of_another_horizon_or_rig_is_refused():
  metadata = fake_policy.FakePolicy().metadata
  for key, value in (("horizon", 5), ("images", []), ("history", 3)):
    with pytest.raises(closed_loop.errors.ConfigError, match=key):
      closed_loop.drivers.check(metadata | {key: value})


def digest(folder):
  found = {}
  for root, _, files in os.walk(folder):
    for name in files:
      path = os.path.join(root, name)
      with open(path, "rb") as file:
        found[os.path.relpath(path, folder)] = hashlib.sha256(
            file.read()).hexdigest()
  return found


@pytest.mark.slow
def test_drives_are_the_same_twice_and_through_a_server(run, capsys):
  args = ["--closed-loop", "--episodes", 1, "--scenarios", "HardBreakRoute",
          "--workers"]
  one, two = run / "one", run / "two"
  assert call("--workdir", one, *args, 1, "--film", run / "film.gif") == 0
  table = capsys.readouterr().out
  assert all(word in table for word in ("model", "still", "blind", "expert"))
  assert (run / "film.gif").stat().st_size > 10_000
  assert call("--workdir", two, *args, 2) == 0
  assert digest(one / "closed_loop") == digest(two / "closed_loop")
  result = json.loads((one / "closed_loop.json").read_text())
  assert result == json.loads((two / "closed_loop.json").read_text())
  drivers = result["drivers"]
  assert drivers["expert"]["success_rate"]["value"] == 100.0
  assert drivers["still"]["success_rate"]["value"] == 0.0

  limits = serve.Limits(batch=1, rate_hz=1e6)
  with serve.in_background(serve.Server(policies.make(),
                                        limits=limits)) as port:
    assert call("--workdir", two, *args, 2, "--against",
                f"127.0.0.1:{port}") == 0
  step = policies.make().metadata["checkpoint_step"]
  ours, served = (digest(two / "closed_loop" / f"{name}-{step}")
                  for name in ("model", "served"))
  assert ours == served and len(ours) == 5

  capsys.readouterr()
  assert score.main([str(two / "closed_loop" / f"model-{step}" /
                         "results.json")]) == 0
  said = capsys.readouterr().out
  value = drivers["model"]["driving_score"]["value"]
  assert f"Driving Score {value:.4f}" in said and "miniworld, 1 of 1" in said
  assert names.FIRST_TEST_SEED in result["seeds"]


@pytest.mark.slow
def test_a_sweep_drives_under_every_disturbance(run, capsys, monkeypatch):
  monkeypatch.setattr(robustness, "SWEEP", robustness.SWEEP[:2])
  monkeypatch.setattr(robustness.disturb, "LEVELS", {
      "drops": robustness.disturb.LEVELS["drops"][:2]})
  assert call("--workdir", run, "--closed-loop", "--episodes", 1,
              "--scenarios", "HardBreakRoute", "--workers", 1,
              "--robustness") == 0
  assert "drops" in capsys.readouterr().out
  rows = json.loads((run / "robustness.json").read_text())["drops"]
  assert [row["severity"] for row in rows] == [0, 1, 2]
  assert (run / "robustness.png").stat().st_size > 1000
  assert len(os.listdir(run / "closed_loop")) == 3 + 3
