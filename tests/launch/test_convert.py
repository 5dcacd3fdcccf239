"""The convert command: files in and out, its table, its refusals."""

import json
import types

import ml_collections
import numpy as np
import pytest

from configs import tiny
from data_pipeline import normalize, spec
from drivemoe_jax import checkpoint
from drivemoe_jax.weights import read, write
from launch import convert
from tests.weights import trees
from tests.weights.test_read import assert_same


@pytest.fixture(scope="module")
def weights():
  return trees.random_weights(trees.shapes(trees.ODD))


@pytest.fixture
def source(weights, tmp_path):
  return write.official(str(tmp_path / "source.safetensors"), weights)


def call(*args):
  return convert.main([str(arg) for arg in args])


def test_a_file_turns_into_the_other_format_and_back(
    weights, source, tmp_path, capsys):
  pytest.importorskip("torch")
  assert call("--source", source, "--target", tmp_path / "x.pt") == 0
  assert "does not resume" in capsys.readouterr().out
  assert call("--source", tmp_path / "x.pt", "--target", tmp_path / "x") == 0
  again = read.official(str(tmp_path / "x"), weights.params)
  assert_same(again.params, weights.params)
  assert again.meta == weights.meta


def test_dry_run_prints_the_table_and_writes_nothing(
    source, tmp_path, capsys):
  before = list(tmp_path.iterdir())
  assert call("--source", source, "--target", tmp_path / "x.pt",
              "--dtype", "bfloat16", "--dry-run") == 0
  lines = capsys.readouterr().out.splitlines()
  row = next(line.split() for line in lines
             if line.startswith("joint_model.mixtures.action.layers.0.mlp.up"))
  assert row == [
      "joint_model.mixtures.action.layers.0.mlp.up_proj.weight", "18x14",
      "bfloat16", "504", "=",
      "joint_model.mixtures.proprio.layers.0.mlp.up_proj.weight"]
  assert lines[-1].startswith(f"{len(lines) - 1} tensors, ")
  assert list(tmp_path.iterdir()) == before


def test_refusals_name_the_remedy(source, tmp_path, capsys):
  assert call("--source", source, "--target", source) == 4
  assert "--overwrite" in capsys.readouterr().err
  assert call("--source", source, "--target", source, "--overwrite") == 0
  assert call("--source", source, "--target", tmp_path / "x.bin") == 2
  assert call("--source", tmp_path / "y", "--target", tmp_path / "x") == 4
  (tmp_path / "config.json").write_text("{}")
  assert call("--source", tmp_path, "--target", tmp_path / "x",
              "--tie", "action") == 2
  assert "training folder" in capsys.readouterr().err


def test_tie_chooses_between_copies(weights, tmp_path):
  import safetensors.numpy
  source = write.official(str(tmp_path / "a.safetensors"), weights)
  key = "joint_model.mixtures.{}.layers.0.input_layernorm.weight"
  tensors = safetensors.numpy.load_file(source)
  tensors[key.format("action")] = tensors[key.format("action")] + 1
  safetensors.numpy.save_file(tensors, source)
  target = tmp_path / "b.safetensors"
  assert call("--source", source, "--target", target) == 4
  assert not target.exists()
  assert call("--source", source, "--target", target, "--tie", "action") == 0
  found = safetensors.numpy.load_file(target)
  for stream in ("action", "proprio"):
    np.testing.assert_array_equal(
        found[key.format(stream)], tensors[key.format("action")])


def test_an_unknown_stage_is_said_and_written_as_none(
    weights, tmp_path, capsys):
  torch = pytest.importorskip("torch")
  source = write.official(str(tmp_path / "a.safetensors"), read.Weights(
      weights.params, weights.alphas, {"horizon_steps": 3}))
  assert call("--source", source, "--target", tmp_path / "b.pt") == 0
  assert "does not tell stage, cond_steps:" in capsys.readouterr().out
  whole = torch.load(tmp_path / "b.pt", weights_only=True)
  assert (whole["stage"], whole["horizon_steps"]) == (None, 3)


def test_a_training_folder_is_a_source_at_any_step(tmp_path):
  config = tiny.get_config("stage=2")
  sizes = {k: v for k, v in trees.ODD.items() if k in config.model}
  config.model.update(sizes)
  run = tmp_path / "run"
  run.mkdir()
  (run / "config.json").write_text(json.dumps(config.to_dict()))
  low, high = (dict.fromkeys(normalize.KEYS, x) for x in (0.0, 1.0))
  normalize.Statistics(3, low, high).save(str(run / "statistics.json"))
  saved = checkpoint.Checkpoints(str(run))
  tree = trees.shapes(trees.ODD)
  params = {step: trees.random_weights(tree, seed=step).params
            for step in (4, 8)}
  for step in params:
    saved.save(step, {"params": params[step]}, {})
  saved.close()
  for source, step in ((run, 8), (f"{run}@4", 4)):
    target = tmp_path / f"{step}.safetensors"
    assert call("--source", source, "--target", target) == 0
    found = read.official(str(target), tree)
    assert_same(found.params, params[step])
    assert found.meta == {"stage": 2, "horizon_steps": 3, "cond_steps": 2}
  assert call("--source", f"{run}@5", "--target", tmp_path / "x") == 4


def test_a_run_brings_its_stage_and_focal_weights(weights, tmp_path):
  config = ml_collections.ConfigDict(dict(
      stage=1, model=dict(horizon=3, history=2), loss=dict(
          camera_counts=(4, 2, 1, 4, 4), skill_counts=())))
  run = types.SimpleNamespace(config=config, params=weights.params)
  path = write.official(str(tmp_path / "run"), convert.of_run(run))
  found = read.official(path, weights.params)
  assert found.meta == {"stage": 1, "horizon_steps": 3, "cond_steps": 2}
  # Inverse counts 1/4 1/2 1 1/4 1/4 sum to 9/4.
  np.testing.assert_allclose(
      found.alphas["camera"], [1 / 9, 2 / 9, 4 / 9, 1 / 9, 1 / 9], rtol=1e-6)
  np.testing.assert_allclose(
      found.alphas["skill"], spec.alphas(spec.SKILL_COUNTS), rtol=1e-6)
