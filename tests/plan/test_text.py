"""What a person reads: caveats where they belong, faults in plain sight."""

import jax
import pytest

from drivemoe_jax.plan import compiled, text

PLAN = {
    "method": "compiled", "libtpu": "0.0.42.1", "what": "train",
    "topology": "v4:2x2x1", "slices": 2, "chips": 8, "devices_per_chip": 2,
    "mesh": {"data": 2, "fsdp": 8, "expert": 1}, "batch_per_chip": 4,
    "remat": "full", "clock_ghz": 1.05, "model_flops_per_sample": 3.712e12,
    "trained_bf16_bytes": int(6e9), "refused": None,
    "bytes_per_chip": {"arguments": int(5e9), "temporaries": int(6e9),
                       "peak": int(10e9), "hbm": int(32.75e9)},
    "estimated_cycles": int(9e8), "estimated_ms": 857.1, "estimated_mfu": 0.2,
    "bound_ms": {"compute": 162.0, "bytes": 17.9}, "compile_seconds": 200.0,
    "collectives": {"all-gather": {"count": 120, "bytes": int(12e9)}},
    "across_slices": {"all-reduce": {"count": 30, "bytes": int(1e9)}},
    "loops": {"while.1": 27}, "weight_copies": None,
    "gathers": {"parameter_bytes": int(12e9), "not_bf16": ["f32 gather"],
                "embedding": [], "experts": []},
    "suggestions": [{"change": "remat=full", "saves_bytes": 3 * 2**30}]}


def test_a_compiled_plan():
  lines = "\n".join(text.memory(PLAN) + text.program(PLAN))
  assert "2 x v4:2x2x1 (8 chips)" in lines and "2 devices" in lines
  assert "10.000 GB" in lines and "31 % used" in lines
  assert "no communication" in lines and "never a measurement" in lines
  assert "2.00 x the trained ones" in lines
  assert "between slices: all-reduce 30 per step, 1.000 GB" in lines
  assert lines.count("LOOK") == 1 and "wider than bfloat16: f32" in lines


def test_a_refused_plan_shows_no_figure():
  lines = text.program(PLAN | {"refused": "while.7 is unknown"})
  assert lines == ["refused      while.7 is unknown"]


def test_an_analytic_plan_is_called_one_and_ends_with_memory():
  estimate = PLAN | {"method": "analytic", "estimated_cycles": None}
  assert "no compiler asked" in "\n".join(text.memory(estimate))
  assert text.program(estimate) == []


def test_over_budget():
  assert text.over_budget(PLAN).startswith(
      "needs ~9.3 of 30.5 GiB per chip. Try: remat=full (-3.0).")
  assert "more chips" in text.over_budget(PLAN | {"suggestions": []})


class Lowered:
  """A program that the compiler refuses."""

  def __init__(self, message):
    self.message = message

  def compile(self):
    raise jax.errors.JaxRuntimeError(self.message)


def test_a_refused_compilation_is_a_finding_and_another_error_is_not():
  result, _ = compiled.compile_timed(Lowered(
      "RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm. arguments 2.50G"))
  assert result == {"arguments": int(2.5 * 2**30), "temporaries": None,
                    "peak": 20 * 2**30}
  with pytest.raises(jax.errors.JaxRuntimeError):
    compiled.compile_timed(Lowered("INTERNAL: RET_CHECK"))
