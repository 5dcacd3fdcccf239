"""The model against golden outputs of the official one, and that it matters.

Three cases lie in tests/golden: stage 1, stage 2 with sampled views, and
Drive-pi0 with adaptive norms. All others run where reference data is present.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

from drivemoe_jax import golden, parity
from drivemoe_jax import step as steps
from launch import parity as command

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/outputs.npz"))


def failed(quantities):
  return [q.name for q in quantities if q.ok is False]


@pytest.mark.parametrize("name", CASES)
def test_every_stored_quantity_agrees(name):
  folder = GOLDEN / name
  found = list(parity.run(folder))
  assert not failed(found)
  assert all(q.why for q in found if q.ok is None)
  names = [q.name for q in found]
  assert len(names) == len(set(names))
  for stem in ("outputs", "intermediates", "grads", "train_trace"):
    with np.load(folder / f"{stem}.npz") as file:
      assert {f"{stem}/{key}" for key in file.files} <= set(names)
  stats = json.loads((folder / "grad_stats.json").read_text())
  assert {f"grad_stats/{key}" for key in stats["grads"]} <= set(names)


@pytest.mark.slow
def test_all_reference_cases_agree(shared):
  folders = sorted((shared / "golden").glob("drive*"))
  assert len(folders) >= 7
  for folder in folders:
    assert not failed(parity.run(folder)), folder


def test_paligemma_agrees_in_every_format(shared):
  found = list(parity.run(shared / "golden" / "paligemma"))
  assert not failed(found) and len(found) == 30
  assert {q.ok for q in found} == {True}


def test_a_paligemma_case_notices_a_wrong_weight(shared, tmp_path):
  folder = tmp_path / "case"
  shutil.copytree(shared / "golden" / "paligemma", folder)
  path = folder / "hf_tiny.safetensors"
  weights = safetensors.numpy.load_file(path)
  key = "language_model.model.layers.2.self_attn.o_proj.weight"
  weights[key] = np.ascontiguousarray(weights[key][::-1])
  safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})
  bad = failed(parity.run(folder))
  assert "outputs/lm_hidden@hf" in bad and "outputs/lm_hidden" not in bad
  assert "outputs/image_features@hf" not in bad


def mutated(tmp_path, key, change):
  """A copy of the stage 1 case with changed weights."""
  folder = tmp_path / "case"
  shutil.copytree(GOLDEN / "drivemoe_stage1", folder)
  weights = safetensors.numpy.load_file(folder / "weights.safetensors")
  for name, value in change(weights, key).items():
    weights[name] = np.ascontiguousarray(value)
  safetensors.numpy.save_file(weights, folder / "weights.safetensors")
  return folder


def flip_sign(weights, key):
  return {key: -weights[key]}


def zero_row(weights, key):
  return {key: weights[key] * np.array([[0], [1], [1], [1], [1]], np.float32)}


def swap_gate_and_up(weights, key):
  gate, up = f"{key}.gate_proj.weight", f"{key}.up_proj.weight"
  return {gate: weights[up], up: weights[gate]}


@pytest.mark.parametrize("key, change, names", [
    ("joint_model.action_router.router_linear.weight", flip_sign,
     {"outputs/action_logits", "outputs/v_psi"}),
    ("camera_router.mlp.3.weight", flip_sign, {"outputs/camera_logits"}),
    ("joint_model.mixtures.action.layers.4.mlp.skill_experts.0",
     swap_gate_and_up, {"outputs/v_psi", "outputs/loss_action"}),
    ("view_embeddings.weight", zero_row, {"outputs/inputs_embeds"})])
def test_a_wrong_weight_is_noticed_and_named(tmp_path, key, change, names):
  case = golden.Case(mutated(tmp_path, key, change))
  total, aux = steps.jit_once(case.loss)(case.params)
  got = parity.trained(case, total, aux)
  assert names <= set(failed(parity.outputs(case, got)))


def test_command_fails_with_the_case_and_writes_json(tmp_path, monkeypatch,
                                                     capsys):
  from drivemoe_jax import tolerance as tol
  good, bad = tol.Quantity("outputs/a", 1e-7, 1e-7, True), tol.Quantity(
      "outputs/b", np.inf, np.inf, False, "shape (1,), want (2,)")
  monkeypatch.setattr(parity, "run", lambda folder: [good, bad])
  path = tmp_path / "report.json"
  assert command.main(["somewhere/case", "--json", str(path)]) == 1
  told = json.loads(path.read_text())
  assert not told["ok"] and told["cases"][0]["case"] == "case"
  assert told["cases"][0]["quantities"][1]["max_abs"] is None
  out = capsys.readouterr().out
  assert "FAIL  outputs/b" in out and "1 pass, 1 fail, 0 null" in out
  monkeypatch.setattr(parity, "run", lambda folder: [good])
  assert command.main(["case", "--json", "-"]) == 0
  assert json.loads(capsys.readouterr().out)["ok"]


def test_a_folder_that_is_no_case_is_refused(tmp_path, capsys):
  assert command.main([str(tmp_path)]) == 3
  assert "E-DATA" in capsys.readouterr().err
  for content in ("{}", "[]", '{"model": {}}'):  # such as of a training
    (tmp_path / "config.json").write_text(content)
    assert command.main([str(tmp_path)]) == 3
    assert "no golden case" in capsys.readouterr().err
