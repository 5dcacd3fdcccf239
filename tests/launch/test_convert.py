"""The convert command: files in and out, its table, its refusals."""

import json
import sys

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
  return write.write(str(tmp_path / "source.safetensors"), weights)


def call(*args):
  return convert.main([str(arg) for arg in args])


def test_a_file_turns_into_the_other_format_and_back(
    weights, source, tmp_path, capsys):
  assert call("--source", source, "--target", tmp_path / "x.pt") == 0
  assert "does not resume" in capsys.readouterr().out
  assert call("--source", tmp_path / "x.pt", "--target", tmp_path / "x") == 0
  again = read.load(str(tmp_path / "x"), weights.params)
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
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  assert call("--source", source, "--target", tmp_path / "run",
              "--overwrite") == 2
  assert "folder of a run" in capsys.readouterr().err
  (tmp_path / "hf").mkdir()
  (tmp_path / "hf" / "config.json").write_text("{}")
  assert call("--source", source, "--target", tmp_path / "hf") == 4
  assert (tmp_path / "hf" / "config.json").read_text() == "{}"
  assert call("--source", source, "--target", tmp_path / "v1.2") == 0
  assert call("--source", tmp_path / "y", "--target", tmp_path / "x") == 4
  for flags in (("--max-shard", "4 GB"), ("--heads", "2,3")):
    assert call("--source", source, "--target", tmp_path / "x", *flags) == 2
    assert flags[0] in capsys.readouterr().err
  assert call("--source", source, "--target", tmp_path / "x",
              "--check-forward") == 2
  assert "training folder" in capsys.readouterr().err


def test_tie_chooses_between_copies(weights, tmp_path):
  import safetensors.numpy
  source = write.write(str(tmp_path / "a.safetensors"), weights)
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
  source = write.write(str(tmp_path / "a.safetensors"), read.Weights(
      weights.params, weights.alphas, {"horizon_steps": 3}))
  assert call("--source", source, "--target", tmp_path / "b.pt") == 0
  assert "does not tell stage, cond_steps:" in capsys.readouterr().out
  whole = torch.load(tmp_path / "b.pt", weights_only=True)
  assert (whole["stage"], whole["horizon_steps"]) == (None, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A training folder with steps 4 and 8, and {step: its parameters}."""
  config = tiny.get_config("stage=2")
  sizes = {k: v for k, v in trees.ODD.items() if k in config.model}
  config.model.update(sizes)
  config.prompt_ids, config.loss.camera_counts = (2, 5), (4, 2, 1, 4, 4)
  config.loss.skill_counts = ()
  folder = tmp_path_factory.mktemp("run")
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  low, high = (dict.fromkeys(normalize.KEYS, x) for x in (0.0, 1.0))
  normalize.Statistics(3, low, high).save(str(folder / "statistics.json"))
  saved = checkpoint.Checkpoints(str(folder))
  tree = trees.shapes(trees.ODD)
  params = {step: trees.random_weights(tree, seed=step).params
            for step in (4, 8)}
  for step in params:
    saved.save(step, {"params": params[step]}, {})
  saved.close()
  return folder, params


def test_a_training_folder_is_a_source_at_any_step(run, tmp_path, capsys):
  folder, params = run
  for source, step in ((folder, 8), (f"{folder}@4", 4)):
    target = tmp_path / f"{step}.safetensors"
    assert call("--source", source, "--target", target) == 0
    found = read.load(str(target), trees.shapes(trees.ODD))
    assert_same(found.params, params[step])
    assert found.meta == {"stage": 2, "horizon_steps": 3, "cond_steps": 2}
  assert call("--source", f"{folder}@5", "--target", tmp_path / "x") == 4
  assert call("--source", folder, "--target", tmp_path / "x",
              "--tie", "action") == 2
  assert "training folder" in capsys.readouterr().err


def test_a_run_brings_its_focal_weights(run, tmp_path):
  target = tmp_path / "run.pt"
  assert call("--source", run[0], "--target", target) == 0
  found = read.scan(str(target))
  # Inverse counts 1/4 1/2 1 1/4 1/4 sum to 9/4.
  np.testing.assert_allclose(
      found.alphas["camera"], [1 / 9, 2 / 9, 4 / 9, 1 / 9, 1 / 9], rtol=1e-6)
  np.testing.assert_allclose(
      found.alphas["skill"], spec.alphas(spec.SKILL_COUNTS), rtol=1e-6)


def test_both_models_agree_on_what_was_written(run, tmp_path, capsys):
  pytest.importorskip("torch")
  for name in ("a.pt", "b.safetensors"):
    assert call("--source", run[0], "--target", tmp_path / name,
                "--check-forward", "--dtype", "bfloat16") == 0
    out = capsys.readouterr().out
    assert "velocity" in out and "camera_logits" in out


def test_a_forward_pass_that_differs_leaves_no_file(
    run, tmp_path, capsys, monkeypatch):
  pytest.importorskip("torch")
  from launch import forward
  honest = forward.tensors
  key = "joint_model.mixtures.action.norm.weight"
  monkeypatch.setattr(forward, "tensors", lambda path: honest(path) | {
      key: honest(path)[key] + 0.1})
  assert call("--source", run[0], "--target", tmp_path / "a.pt",
              "--check-forward") == 4
  assert "velocity differs" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_without_torch_a_forward_pass_is_refused(run, tmp_path, capsys,
                                                 monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  assert call("--source", run[0], "--target", tmp_path / "a.pt",
              "--check-forward") == 2
  assert "needs torch" in capsys.readouterr().err


def test_paligemma_alone_goes_through_every_format(run, tmp_path, capsys):
  norm = trees.paligemma(trees.ODD)
  write.write(str(tmp_path / "norm.npz"), norm, column="bv")
  steps = [("a.npz", run[0]), ("b", "a.npz"), ("c.safetensors", "b"),
           ("d.npz", "c.safetensors")]
  for target, source in steps:
    extra = ["--final-norm", tmp_path / "norm.npz"] if source == run[0] else []
    assert call("--source", tmp_path / source, "--target", tmp_path / target,
                *extra) == 0, capsys.readouterr().err
  with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "d.npz") as d:
    assert set(a.files) == set(d.files) and len(a.files) == 32
    assert all(np.array_equal(a[key], d[key]) for key in a.files)
  for args, told in (
      (["--source", run[0], "--target", tmp_path / "e.npz"], "--final-norm"),
      (["--source", tmp_path / "a.npz", "--target", tmp_path / "e.pt",
        "--names", "official"], "PaliGemma alone")):
    assert call(*args) == 4
    assert told in capsys.readouterr().err
  assert not (tmp_path / "e.npz").exists() | (tmp_path / "e.pt").exists()


def test_extra_tensors_are_left_out_only_when_allowed(
    weights, tmp_path, capsys):
  import safetensors.numpy
  source = write.write(str(tmp_path / "a.safetensors"), weights)
  tensors = safetensors.numpy.load_file(source)
  tensors["lora.a"] = np.zeros((2, 2), np.float32)
  safetensors.numpy.save_file(tensors, source)
  target = tmp_path / "b.safetensors"
  assert call("--source", source, "--target", target) == 4
  assert "1 extra: lora.a" in capsys.readouterr().err
  assert call("--source", source, "--target", target,
              "--allow-extra", r"lora\..*") == 0
  assert "skipped 1 tensors of the source: lora.a" in capsys.readouterr().out


@pytest.mark.parametrize("key", [
    "view_embeddings.weight",  # all of a kind, and one of many
    "vision_tower.vision_model.encoder.layers.1.layer_norm1.bias"])
def test_a_source_with_a_gap_is_refused(weights, tmp_path, capsys, key):
  import safetensors.numpy
  source = write.write(str(tmp_path / "a.safetensors"), weights)
  tensors = safetensors.numpy.load_file(source)
  del tensors[key]
  safetensors.numpy.save_file(tensors, source)
  assert call("--source", source, "--target", tmp_path / "b.pt") == 4
  told = capsys.readouterr().err
  assert "missing" in told and key in told
  assert not (tmp_path / "b.pt").exists()
