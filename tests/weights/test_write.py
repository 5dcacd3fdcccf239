"""Writing official files: exact, whole or not at all, as torch expects."""

import dataclasses
import json
import pathlib
import struct
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from data_pipeline import errors
from drivemoe_jax.weights import blocks, names, read, write
from tests.weights import trees
from tests.weights.test_read import assert_same


@pytest.fixture(scope="module")
def weights():
  return trees.random_weights(trees.shapes(trees.ODD))


def test_round_trip_is_exact(odd, tmp_path):
  tree, weights = odd
  path = write.write(str(tmp_path / "w.safetensors"), weights)
  again = read.load(path, tree)
  assert_same(again.params, weights.params)
  assert_same(again.alphas, weights.alphas)
  assert again.meta == weights.meta


def test_pt_round_trip_is_exact(odd, tmp_path):
  tree, weights = odd
  path = write.write(str(tmp_path / "w.pt"), weights)
  again = read.load(path, tree)
  assert_same(again.params, weights.params)
  assert_same(again.alphas, weights.alphas)
  assert again.meta == (weights.meta if weights.alphas else {})


def test_the_library_reads_our_header(weights, tmp_path):
  path = write.write(str(tmp_path / "w.safetensors"), weights)
  tensors = safetensors.numpy.load_file(path)
  assert_same(tensors, dict(names.to_official(weights.params)) | {
      names.ALPHAS[name]: value for name, value in weights.alphas.items()})
  with safetensors.safe_open(path, "np") as file:
    assert file.metadata() == {"format": "pt", "stage": "2",
                               "horizon_steps": "3", "cond_steps": "2"}
  size, = struct.unpack("<Q", pathlib.Path(path).read_bytes()[:8])
  assert size % 8 == 0  # so that the tensors lie aligned


def test_device_arrays_write_as_host_arrays_do(weights, tmp_path):
  on_device = dataclasses.replace(
      weights, params=jax.tree.map(jnp.asarray, weights.params))
  paths = [write.write(str(tmp_path / f"{i}.safetensors"), w)
           for i, w in enumerate((weights, on_device))]
  a, b = (pathlib.Path(path).read_bytes() for path in paths)
  assert a == b


def test_leaves_split_over_devices_write_as_whole_ones_do(weights, tmp_path):
  mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  flat = blocks.flatten(weights.params)
  for path, axis in {"llm/embedder/input_embedding": 0,
                     "llm/layers/moe/mlp/linear": 1}.items():
    spec = jax.sharding.PartitionSpec(*[None] * axis, "x")
    flat[path] = jax.device_put(
        flat[path], jax.sharding.NamedSharding(mesh, spec))
  path = write.write(str(tmp_path / "w.safetensors"),
                        dataclasses.replace(weights, params=flat))
  assert_same(read.load(path, weights.params).params, weights.params)


def test_bfloat16_rounds_to_nearest(weights, tmp_path):
  path = write.write(str(tmp_path / "w.safetensors"), weights,
                        dtype="bfloat16")
  found = safetensors.numpy.load_file(path)["view_embeddings.weight"]
  np.testing.assert_array_equal(
      found, weights.params["view_embedding"].astype(ml_dtypes.bfloat16))


def test_pt_holds_what_the_release_looks_for(weights, tmp_path):
  torch = pytest.importorskip("torch")
  path = write.write(str(tmp_path / "w.pt"), weights)
  whole = torch.load(path, weights_only=True)
  assert whole.keys() == {
      "cnt_update", "cnt_batch", "model", "wandb_id", "run_name", "stage",
      "horizon_steps", "cond_steps"}
  assert [whole[k] for k in ("cnt_update", "cnt_batch", "wandb_id", "run_name",
                             "stage", "horizon_steps", "cond_steps")] == [
      0, 0, None, None, 2, 3, 2]
  assert [key for key, *_ in write.table(weights)] == list(whole["model"])
  key = "joint_model.mixtures.{}.layers.1.mlp.down_proj.weight"
  action, proprio = (whole["model"][key.format(s)]
                     for s in ("action", "proprio"))
  assert action.data_ptr() == proprio.data_ptr()   # stored once
  assert action.shape == (14, 18)


def test_drive_pi0s_envelope_knows_no_stage(tmp_path):
  torch = pytest.importorskip("torch")
  pi0 = trees.random_weights(trees.shapes(trees.ODD | trees.PI0))
  path = write.write(str(tmp_path / "w.pt"), pi0, dtype="bfloat16")
  whole = torch.load(path, weights_only=True)
  assert whole.keys() == {"cnt_update", "cnt_batch", "model", "wandb_id"}
  assert whole["model"]["embed_tokens.weight"].dtype == torch.bfloat16
  size = sum(v.size for v in blocks.flatten(pi0.params).values()) * 2
  assert pathlib.Path(path).stat().st_size < 1.5 * size + 200_000


def test_pt_of_a_pickled_program_is_refused(weights, tmp_path):
  torch = pytest.importorskip("torch")
  tree = trees.shapes(trees.ODD)
  ran = tmp_path / "ran"

  class Program:
    def __reduce__(self):
      return (pathlib.Path.touch, (ran,))

  path = tmp_path / "w.pt"
  torch.save({"model": Program()}, path)
  with pytest.raises(errors.CheckpointError, match="plain tensors"):
    read.load(str(path), tree)
  assert not ran.exists()
  torch.save({"state": {}}, path)
  with pytest.raises(errors.CheckpointError, match="no 'model' entry"):
    read.load(str(path), tree)
  path.write_bytes(path.read_bytes()[:-50])
  with pytest.raises(errors.CheckpointError, match="no whole .npz or PyTorch"):
    read.load(str(path), tree)
  torch.save({"model": {"view_embeddings.weight": torch.zeros(2).long()}}, path)
  with pytest.raises(errors.CheckpointError, match="floating point"):
    read.load(str(path), tree)


def test_an_existing_target_stays_unless_told(weights, tmp_path):
  path = tmp_path / "w.safetensors"
  path.write_text("mine")
  with pytest.raises(errors.CheckpointError, match="--overwrite"):
    write.write(str(path), weights)
  assert path.read_text() == "mine"
  write.write(str(path), weights, overwrite=True)
  assert read.scan(str(path)).meta == weights.meta


def test_a_folder_gets_one_file_or_shards_with_an_index(weights, tmp_path):
  path = write.write(str(tmp_path / "export"), weights)
  assert [p.name for p in (tmp_path / "export").iterdir()] == [
      "model.safetensors"]
  assert read.scan(path).meta == weights.meta
  with pytest.raises(errors.CheckpointError, match="exists"):
    write.write(path, weights)
  (tmp_path / "export" / "notes.txt").write_text("mine")
  write.write(path, weights, max_shard=20_000, overwrite=True)
  files = sorted(p.name for p in (tmp_path / "export").iterdir())
  shards = [name for name in files if name.startswith("model-")]
  assert files == [*shards, "model.safetensors.index.json", "notes.txt"]
  index = json.loads((tmp_path / "export" / files[-2]).read_text())
  assert set(index["weight_map"].values()) == set(shards)
  for name in shards:
    tensors = safetensors.numpy.load_file(tmp_path / "export" / name)
    assert all(index["weight_map"][key] == name for key in tensors)
    assert len(tensors) == 1 or sum(
        t.nbytes for t in tensors.values()) <= 20_000
  assert_same(read.load(path, weights.params).params, weights.params)
  (tmp_path / "export" / shards[1]).unlink()
  with pytest.raises(errors.CheckpointError, match=shards[1]):
    read.scan(path)


def test_targets_hold_the_names_that_they_can(weights, tmp_path):
  for name, column in {"w.ckpt": "official", "w.pt": "hf", "w.npz": "official",
                       "w.npz ": "bv"}.items():
    with pytest.raises(errors.ConfigError, match="NAME.pt|--names"):
      write.write(str(tmp_path / name), weights, column=column)
  assert not list(tmp_path.iterdir())


def test_a_tower_of_convolutions_has_no_other_format(tmp_path):
  weights = trees.random_weights(trees.shapes(
      trees.ODD | dict(vision_stem="conv", patch_size=4, image_size=8)))
  for name, column in (("x.pt", "official"), ("x.npz", "bv")):
    with pytest.raises(errors.CheckpointError, match="model.vision_stem=patch"):
      write.write(str(tmp_path / name), weights, column=column)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "folder"])
def test_a_full_disk_leaves_nothing(weights, tmp_path, monkeypatch, name):
  def full(_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(write.os, "fsync", full)
  with pytest.raises(errors.CheckpointError, match="No space left"):
    write.write(str(tmp_path / name), weights)
  assert not list(tmp_path.iterdir())


def test_too_little_room_is_told_before_anything_is_written(
    weights, tmp_path, monkeypatch):
  usage = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(write.shutil, "disk_usage", lambda path: usage)
  with pytest.raises(errors.CheckpointError, match="bytes needed, 1,000 free"):
    write.write(str(tmp_path / "w.pt"), weights)
  assert not list(tmp_path.iterdir())


def test_a_check_that_fails_leaves_nothing(weights, tmp_path):
  def check(path):
    assert read.scan(path).meta == weights.meta
    raise errors.CheckpointError("no")

  with pytest.raises(errors.CheckpointError, match="no"):
    write.write(str(tmp_path / "w.pt"), weights, check=check)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", [
    "view_embeddings.weight",
    "joint_model.mixtures.action.layers.0.input_layernorm.weight",
    "joint_model.mixtures.proprio.layers.0.input_layernorm.weight"])
def test_what_reads_back_otherwise_gets_no_name(
    weights, tmp_path, monkeypatch, key):
  def flip(number, sync=write.os.fsync):
    sync(number)
    partial = tmp_path / "w.safetensors.partial"
    data = bytearray(partial.read_bytes())
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    data[8 + size + header[key]["data_offsets"][0]] ^= 1
    partial.write_bytes(data)

  monkeypatch.setattr(write.os, "fsync", flip)
  with pytest.raises(errors.CheckpointError, match="reads back otherwise"):
    write.write(str(tmp_path / "w.safetensors"), weights)
  assert not list(tmp_path.iterdir())


def test_focal_weights_of_another_length_are_refused(weights, tmp_path):
  short = dataclasses.replace(
      weights, alphas=weights.alphas | {"skill": np.ones(4)})
  with pytest.raises(errors.CheckpointError, match="4 focal weights"):
    write.write(str(tmp_path / "w.safetensors"), short)


def test_weights_load_neither_torch_nor_tensorflow():
  code = ("import sys; from drivemoe_jax.weights import read, sources, write; "
          "assert not {'torch', 'tensorflow'} & set(sys.modules)")
  subprocess.run([sys.executable, "-c", code], check=True,
                 cwd=pathlib.Path(__file__).parents[2])
