"""The model's races in miniature, floors by hand, and what may not be equal."""

import json

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.plan import flops, traffic
from launch import bench
from launch.bench import floor, gpu, infer, race, speed
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


def test_sides_take_turns_and_the_warm_up_is_left_out():
  said = []
  found = race.run({"a": (Counter,), "b": (Counter, "two")}, 3, 1, said.append)
  assert found["a", "one"]["ms"] == found["b", "one"]["ms"] == [2.0, 3.0, 4.0]
  assert list(found["a", "one"]["first"]["seeds"]) == [0]
  assert found["a", "one"]["peak_bytes"] > 10**6
  assert found["b", "two"]["failed"] == "ZeroDivisionError: no compiler"
  assert "b, two left out" in "".join(said)


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


def test_programs_that_differ_are_refused():
  same = {("jax", "batch 1, token, dense"): outputs(2.0),
          ("eager", "batch 1, token"): outputs(2.0 + 1e-6),
          ("compiled", "batch 1, token"): {"failed": "why"},
          ("eager", "batch 2, token"): outputs(9.0)}
  speed._check_equal(same, 1e-4)
  same["eager", "batch 1, token"] = outputs(2.01)
  with pytest.raises(errors.NumericsError, match="eager, batch 1, token: y"):
    speed._check_equal(same, 1e-4)
  same["eager", "batch 1, token"] = outputs(np.nan)
  with pytest.raises(errors.NumericsError):
    speed._check_equal(same, 1e-4)


SMALL = [f"--config.model.{key}={value}" for key, value in dict(
    image_size=28, vision_width=16, vision_layers=1, vision_heads=2,
    vision_mlp=16, vlm_width=16, vlm_mlp=16, expert_width=8, expert_mlp=8,
    layers=3, heads=2, head_dim=8, moe_layers=2).items()]


def test_a_gpu_runs_every_race_at_full_size(monkeypatch, capsys):
  asked = []

  def race_of(args, say):
    asked.append((args.config, args.runs, args.against))
    return {"rows": [{"name": "batch 1", "median_ms": 1.0, "p5_ms": 1.0,
                      "p95_ms": 1.0, "peak_bytes": None, "against": None,
                      "ratio_to_floor": None}], "remarks": ["so much"]}

  monkeypatch.setattr(infer, "run", race_of)
  monkeypatch.setattr(gpu, "RACES", gpu.RACES[:2])
  assert bench.main(["gpu", "--runs", "7"]) == 0
  assert asked == [(config, 7, "pytorch") for config in (
      "configs/stage1.py", "configs/stage1.py:views=front")]
  text = capsys.readouterr().out
  assert "one view: batch 1" in text and text.count("so much") == 2


@pytest.mark.slow
@pytest.mark.parametrize("which, first", [
    ("infer", "batch 1"), ("train", "update"),
    ("experts", "batch 1, trajectory, rule")])
def test_both_sides_compute_the_same(which, first, tmp_path, capsys,
                                     monkeypatch):
  pytest.importorskip("torch")
  monkeypatch.setattr(speed, "PYTORCH", {"eager": "PyTorch"})
  monkeypatch.setattr(speed, "_ceilings", lambda *args: CEILINGS)
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
