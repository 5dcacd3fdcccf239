"""Reading official files: strict, exact, and clear about what is wrong."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from data_pipeline import errors
from drivemoe_jax.weights import blocks, names, read, write
from drivemoe_jax.weights import tensors as tensors_lib
from tests.weights import trees

SHARED = "joint_model.mixtures.{}.layers.0.self_attn.q_proj.weight"


def assert_same(got, want):
  got, want = blocks.flatten(got), blocks.flatten(want)
  assert got.keys() == want.keys()
  for path in want:
    assert tensors_lib.same(np.asarray(got[path]), np.asarray(want[path])), path


@pytest.fixture(scope="module")
def tree():
  return trees.shapes(trees.ODD)


@pytest.fixture(scope="module")
def tensors(tree):
  """{official key: array} of one DriveMoE, buffers included."""
  weights = trees.random_weights(tree)
  return dict(names.to_official(weights.params)) | {
      names.ALPHAS[name]: value for name, value in weights.alphas.items()}


@pytest.fixture
def save(tmp_path):
  """Writes tensors with the safetensors library, not with ours."""
  def save(tensors, name="weights.safetensors", **kwargs):
    path = tmp_path / name
    safetensors.numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, path,
        **kwargs)
    return str(path)
  return save


def test_a_library_written_file_reads_back(tree, tensors, save):
  weights = read.load(save(tensors, metadata={"stage": "2"}), tree)
  assert_same(weights.params, trees.random_weights(tree).params)
  assert weights.meta == {"stage": 2}
  np.testing.assert_array_equal(
      weights.alphas["skill"], tensors[names.ALPHAS["skill"]])


def test_leaves_take_the_dtype_asked_for(tree, tensors, save):
  like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, ml_dtypes.bfloat16), tree)
  params = read.load(save(tensors), like).params
  leaf = params["router"]["skill"]["kernel"]
  np.testing.assert_array_equal(
      leaf, tensors["joint_model.action_router.router_linear.weight"].T.astype(
          ml_dtypes.bfloat16))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files_widen_exactly(tree, tensors, save, dtype):
  halves = {k: v.astype(dtype) for k, v in tensors.items()}
  params = read.load(save(halves), tree).params
  assert params["view_embedding"].dtype == np.float32
  np.testing.assert_array_equal(
      params["view_embedding"], halves["view_embeddings.weight"].astype("f4"))


def test_compiled_modules_prefixes_are_dropped(tree, tensors, save):
  compiled = {"_orig_mod." + key.replace("joint_model.",
                                         "joint_model._orig_mod."): value
              for key, value in tensors.items()}
  assert_same(read.load(save(compiled), tree).params,
              trees.random_weights(tree).params)


def test_a_folder_of_shards_is_one_file(tree, tensors, save, tmp_path):
  keys = sorted(tensors)
  save({k: tensors[k] for k in keys[:50]}, "model-1.safetensors")
  path = save({k: tensors[k] for k in keys[50:]}, "model-2.safetensors")
  assert_same(read.load(str(tmp_path), tree).params,
              trees.random_weights(tree).params)
  save({keys[0]: tensors[keys[0]]}, "model-3.safetensors")
  with pytest.raises(errors.CheckpointError, match="a second tensor"):
    read.load(str(tmp_path), tree)
  assert path


def test_missing_extra_and_reshaped_tensors_are_listed(tree, tensors, save):
  broken = dict(tensors)
  del broken["proprio_encoder.bias"], broken[SHARED.format("action")]
  broken["lora.weight"] = np.zeros((2, 2), np.float32)
  broken["view_embeddings.weight"] = np.zeros((4, 16), np.float32)
  with pytest.raises(errors.CheckpointError) as caught:
    read.load(save(broken), tree)
  told = str(caught.value)
  assert "2 missing: " + SHARED.format("action") in told
  assert "proprio_encoder.bias" in told
  assert "1 extra: lora.weight" in told
  assert ("1 reshaped: view_embeddings.weight (4, 16) in the file, (5, 16) in "
          "the model") in told


def test_a_transposed_matrix_is_reshaped_not_read(tree, tensors, save):
  key = "action_encoder.linear_2.weight"
  with pytest.raises(errors.CheckpointError, match="1 reshaped"):
    read.load(save(tensors | {key: tensors[key].T}), tree)


def test_a_deeper_model_misses_its_layers(tensors, save):
  deeper = trees.shapes(trees.ODD | dict(layers=7))
  with pytest.raises(errors.CheckpointError, match="missing: .* and .* more"):
    read.load(save(tensors), deeper)


def test_tied_copies_that_differ_need_a_choice(tree, tensors, save):
  moved = tensors[SHARED.format("action")] + 1
  path = save(tensors | {SHARED.format("action"): moved})
  with pytest.raises(errors.CheckpointError, match="differ.*--tie"):
    read.load(path, tree)
  pick = lambda tie: read.load(path, tree, tie=tie).params["expert"]["shared"][
      "layers"]["dense"]["attn"]["q_einsum"]["w"][0]
  back = lambda w: w.transpose(0, 2, 1).reshape(-1, w.shape[1])
  np.testing.assert_array_equal(back(pick("action")), moved)
  np.testing.assert_array_equal(
      back(pick("proprio")), tensors[SHARED.format("proprio")])


def test_broken_files_are_named(tree, tensors, save, tmp_path):
  whole = open(save(tensors), "rb").read()
  for name, content in {"cut": whole[:-7], "cut_header": whole[:100],
                        "page": b"<html>403: accept the licence</html>",
                        "empty": b""}.items():
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(content)
    with pytest.raises(errors.CheckpointError, match=f"{name}.*no whole"):
      read.load(str(path), tree)
  with pytest.raises(errors.CheckpointError, match="no weights at"):
    read.load(str(tmp_path / "absent.safetensors"), tree)
  (tmp_path / "folder").mkdir()
  with pytest.raises(errors.CheckpointError, match="name a weight file"):
    read.load(str(tmp_path / "folder"), tree)


def test_integers_are_no_weights(tree, tensors, save):
  ids = tensors | {"embed_tokens.weight": np.zeros((40, 16), np.int32)}
  with pytest.raises(errors.CheckpointError, match="weight is I32"):
    read.load(save(ids), tree)


def test_scan_reads_only_the_block_that_is_asked_for(
    tree, tensors, save, monkeypatch):
  lazy = read.scan(save(tensors), tree)
  leaf = lazy.params["expert/action/layers/moe/moe/linear"]
  asked = []
  monkeypatch.setattr(read, "_tied", lambda file, entry, *at: (
      asked.append(entry.key), file.tensors[entry.key].rows(*at[:2]))[1])
  block = leaf[1, 4]                               # shared expert, layer 3
  assert asked == ["joint_model.mixtures.action.layers.3.mlp.shared_experts.0"
                   ".down_proj.weight"]
  np.testing.assert_array_equal(block, tensors[asked[0]].T)


@pytest.mark.parametrize("case", [
    "drivemoe_adaln", "drivemoe_adaln_zero", "drivemoe_stage1",
    "drivemoe_stage2", "drivemoe_stage2_noise", "drivepi0", "drivepi0_adaln"])
def test_reference_weights_read_with_nothing_left_over(shared, case, tmp_path):
  source = str(shared / "golden" / case / "weights.safetensors")
  weights = read.scan(source)
  tensors = dict(names.to_official(weights.params)) | {
      names.ALPHAS[name]: value for name, value in weights.alphas.items()}
  wanted = safetensors.numpy.load_file(source)
  assert tensors.keys() == wanted.keys()
  for key, value in wanted.items():
    assert tensors_lib.same(tensors[key], value), key
  target = write.write(str(tmp_path / "again.safetensors"), weights)
  assert_same(read.scan(target).params, weights.params)


def test_weights_without_a_router_have_no_alphas():
  pi0 = trees.random_weights(trees.shapes(trees.ODD | trees.PI0))
  assert pi0.alphas == {} and dataclasses.is_dataclass(pi0)
