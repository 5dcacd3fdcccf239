"""The model's races in miniature, floors by hand, and what may not be equal."""

import json

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.plan import flops, traffic
from launch import bench
from launch.bench import floor, gpu, race, speed
from tests.models import tiny

CEILINGS = {"flops": 1e9, "bandwidth": 1e6, "device": "cpu: none"}


class Counter:
  """A side whose programs say which seeds they were given."""

  names, may_fail = ("one", "two"), (ZeroDivisionError,)

  def __init__(self, broken=None):
    self._broken, self._seeds = broken, []

  def call(self, name, seed):
    if name == self._broken:
      raise ZeroDivisionError("no compiler\nhere")
    self._seeds.append(seed)
    return float(seed), {"seeds": np.array(self._seeds)}


def test_sides_take_turns_and_only_the_last_call_of_a_turn_counts():
  said = []
  found = race.run({"a": (Counter,), "b": (Counter, "two")}, 3, 1, said.append)
  assert found["a", "one"]["ms"] == found["b", "one"]["ms"] == [3.0, 5.0, 7.0]
  assert list(found["a", "one"]["first"]["seeds"]) == [0]
  assert found["a", "one"]["peak_bytes"] > 10**6
  assert found["b", "two"]["failed"] == "ZeroDivisionError: no compiler"
  assert "b, two left out" in "".join(said)


def test_groups_race_one_after_another_and_a_broken_side_is_left_out():
  said = []
  groups = [{"a": (Counter,), "bad": (Counter, 1, 2, 3, "no_such")},
            {"b": (Counter, "two")}]
  first, second = race.run_in_groups(groups, 2, 1, said.append)
  assert first["a", "two"]["ms"] == [3.0, 5.0]
  assert "Counter.__init__" in first["bad", ""]["failed"]
  assert second["b", "one"]["ms"] == [3.0, 5.0]
  assert second["b", "two"]["failed"] == "ZeroDivisionError: no compiler"
  assert "bad left out" in "".join(said)


def test_a_side_that_breaks_is_told():
  with pytest.raises(errors.ConfigError, match="Counter.__init__"):
    race.run({"a": (Counter, 1, 2, 3, "no_such")}, 1, 1, lambda line: None)


def test_floors_by_hand():
  model = tiny.model()
  assert floor.phase_ms(CEILINGS, 2e6, 1e3) == 2.0       # computing is longer
  assert floor.phase_ms(CEILINGS, 1e3, 5e3) == 5.0       # moving is
  found = floor.plan(CEILINGS, model, 2, 3)
  first = traffic.sampler_bytes(model, 0)
  assert found["bytes"] == traffic.sampler_bytes(model, 3)
  assert found["flops"] == 2 * flops.forward(model, steps=3)
  step = traffic.sampler_bytes(model, 1) - first
  assert found["floor_ms"] == pytest.approx(1e3 * (
      max(2 * flops.forward(model, steps=0) / 1e9, first / 1e6)
      + 3 * max(2 * flops.action(model) / 1e9, step / 1e6)))
  mlp = 3 * model.expert_width * model.expert_mlp
  one = floor.experts(CEILINGS, model, 1, 4, 3)
  assert one["bytes"] == 3 * 4 * mlp
  assert one["flops"] == 2 * model.horizon * mlp * 3


def outputs(value):
  return {"first": {"y": np.array([1.0, value])}}


def test_programs_that_differ_are_told():
  same = {("jax", "batch 1, token, dense"): outputs(2.0),
          ("eager", "batch 1, token"): outputs(2.0 + 1e-6),
          ("compiled", "batch 1, token"): {"failed": "why"},
          ("eager", "batch 2, token"): outputs(9.0)}
  assert not speed.differences(same, 1e-4)
  same["eager", "batch 1, token"] = outputs(2.01)
  line, = speed.differences(same, 1e-4)
  assert line.startswith("eager, batch 1, token: y differs by 5.0e-03")
  same["eager", "batch 1, token"] = outputs(np.nan)
  assert len(speed.differences(same, 1e-4)) == 1


SMALL = [f"--config.model.{key}={value}" for key, value in dict(
    image_size=28, vision_width=16, vision_layers=1, vision_heads=2,
    vision_mlp=16, vlm_width=16, vlm_mlp=16, expert_width=8, expert_mlp=8,
    layers=3, heads=2, head_dim=8, moe_layers=2).items()]


@pytest.mark.slow
def test_a_gpu_runs_every_race(monkeypatch, capsys):
  pytest.importorskip("torch")
  monkeypatch.setattr(speed, "measure_ceilings", lambda *args: CEILINGS)
  monkeypatch.setattr(gpu, "FLAGS", "")
  eager = {name: tuple(side for side in sides if side != "compiled")
           for name, sides in gpu.GROUPS[0].items()}
  monkeypatch.setattr(gpu, "GROUPS", (eager, *gpu.GROUPS[1:]))
  status = bench.main(["gpu", "--runs", "2", "--json", "-",
                       "--config.model.dtype=float32", *SMALL])
  result = json.loads(capsys.readouterr().out)
  assert status == 0 and result["ok"], result["remarks"]
  names = [row["name"] for row in result["rows"]]
  for name in ("many plans: batch 16, layers apart",
               "three views: PyTorch, batch 1", "one view: PyTorch, batch 1",
               "experts: batch 16, token, rule", "training: update",
               "training: PyTorch, update"):
    assert name in names
  assert not any("left out" in line for line in result["remarks"])


@pytest.mark.slow
@pytest.mark.parametrize("which, first", [
    ("infer", "batch 1"), ("train", "update"),
    ("experts", "batch 1, trajectory, rule")])
def test_both_sides_compute_the_same(which, first, tmp_path, capsys,
                                     monkeypatch):
  pytest.importorskip("torch")
  monkeypatch.setattr(speed, "PYTORCH", {"eager": "PyTorch"})
  monkeypatch.setattr(speed, "measure_ceilings", lambda *args: CEILINGS)
  history = tmp_path / "history.jsonl"
  assert bench.main([
      which, "--config", "configs/mid.py", "--against", "pytorch", "--runs",
      "2", "--threads", "1", "--json", "-", "--history", str(history),
      *SMALL]) == 0
  result = json.loads(capsys.readouterr().out)
  row = result["rows"][0]
  assert row["name"] == first and row["against"]["name"] == "PyTorch"
  assert row["ratio_to_floor"] > 0 and row["peak_bytes"] > 0
  assert json.loads(history.read_text())["rows"] == result["rows"]
