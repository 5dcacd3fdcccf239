"""PaliGemma's own formats: npz and Hugging Face, in every spelling and type."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from data_pipeline import errors
from drivemoe_jax.weights import blocks, hf_config, infer, names, read, write
from drivemoe_jax.weights import tensors as tensors_lib
from tests.weights import trees
from tests.weights.test_read import assert_same

SIZES = trees.ODD | dict(vocab_size=128)  # so that 64 rows pad big_vision's 64


@pytest.fixture(scope="module")
def weights():
  return trees.paligemma(SIZES)


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
  """{format: path} of the same weights."""
  folder = tmp_path_factory.mktemp("paligemma")
  return {name: write.write(str(folder / name), weights, column=column)
          for name, column in (("x.npz", "bv"), ("hf", "hf"),
                               ("bv.safetensors", "bv"))}


def save_hf(tensors, folder, heads=(3, 6, 2)):
  """A Hugging Face folder with a config that tells the heads."""
  folder.mkdir(exist_ok=True)
  safetensors.numpy.save_file(
      {k: np.ascontiguousarray(v) for k, v in tensors.items()},
      folder / "model.safetensors", metadata={"format": "pt"})
  (folder / "config.json").write_text(json.dumps({
      "vision_config": {"num_attention_heads": heads[0]},
      "text_config": {"num_attention_heads": heads[1],
                      "num_key_value_heads": heads[2]}}))
  return str(folder)


@pytest.fixture(scope="module")
def hf(files):
  return safetensors.numpy.load_file(f"{files['hf']}/model.safetensors")


def test_formats_agree_but_for_the_padded_rows(weights, files):
  for path in files.values():
    found = read.scan(path)
    assert found.heads == {"vision": 3, "text": 6, "kv": 2}
    assert_same(found.carried, weights.carried)
    got, want = blocks.flatten(found.params), blocks.flatten(weights.params)
    table = np.asarray(got.pop(names.TABLE))
    rows = 128 if path.endswith("hf") else 64
    np.testing.assert_array_equal(table[:rows], want[names.TABLE][:rows])
    assert_same(got, {p: x for p, x in want.items() if p != names.TABLE})


def test_an_npz_leaves_the_padding_to_the_mean_row(files):
  with np.load(files["x.npz"]) as file:
    table = file["params/llm/embedder/input_embedding"]
  assert table.shape == (64, 16)
  again = np.asarray(read.scan(files["x.npz"]).params[names.TABLE])
  np.testing.assert_allclose(
      again[64:], np.broadcast_to(table.mean(0), (64, 16)), atol=1e-6)
  assert len(np.unique(again[64:], axis=0)) == 1


def test_the_published_table_has_the_rows_that_are_known():
  assert names.table_rows(257216) == 257152
  assert names.table_rows(64) == 64 and names.table_rows(40) == 40


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_npz_of_numpys_own_in_every_type(files, tmp_path, save, dtype):
  with np.load(files["x.npz"]) as file:
    arrays = {key: file[key].astype(dtype) for key in file.files}
  path = tmp_path / "own.npz"  # numpy saves bfloat16 as two raw bytes
  save(path, **arrays)
  found = read.scan(str(path))
  for key, value in arrays.items():
    ours = key.removeprefix("params/").replace("layers/", "layers/dense/")
    leaf = (found.params | found.carried)[ours]
    assert leaf.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(leaf)[:len(value)], value)
  order = sorted(found.params, reverse=True)  # backwards through the file
  for ours in order:
    np.asarray(found.params[ours])


def test_bfloat16_is_written_as_big_vision_reads_it(weights, tmp_path):
  path = write.write(str(tmp_path / "x.npz"), weights, column="bv",
                     dtype="bfloat16")
  with np.load(path) as file:
    raw = file["params/img/head/bias"]
  assert raw.dtype.str == "|V2"
  np.testing.assert_array_equal(
      raw.view(ml_dtypes.bfloat16),
      weights.params["img"]["head"]["bias"].astype(ml_dtypes.bfloat16))


def test_a_trainer_s_own_counters_are_no_weights(weights, tmp_path):
  path = write.write(str(tmp_path / "x.npz"), weights, column="bv")
  with np.load(path) as file:
    arrays = dict(file)
  # As big_vision.utils.save_checkpoint flattens a whole training state.
  np.savez(tmp_path / "y.npz", **arrays, **{
      "opt/0/count": np.int32(7), "chrono/accum": np.array(["a"])})
  found = read.scan(str(tmp_path / "y.npz"))
  whole = read.scan(str(tmp_path / "x.npz"))
  got, want = (blocks.flatten(x.params | x.carried) for x in (found, whole))
  assert got.keys() == want.keys()


def spelled(key, version):
  """A legacy key as later versions of transformers have it in memory."""
  if version == "legacy":
    return key
  key = key.replace("language_model.model.", "language_model.")
  key = key.replace("multi_modal_projector.linear", "multi_modal_projector"
                    ) if version == "bare" else key
  if version in ("flat", "bare"):
    key = key.replace("vision_tower.vision_model.", "vision_tower.")
  return "model." + key


@pytest.mark.parametrize("version", ["legacy", "nested", "flat", "bare"])
@pytest.mark.parametrize("head", [None, "lm_head.weight",
                                  "language_model.lm_head.weight"])
def test_every_spelling_reads_alike(weights, hf, tmp_path, version, head):
  tensors = {spelled(key, version): value for key, value in hf.items()}
  if head:
    tensors[head] = hf["language_model.model.embed_tokens.weight"]
  found = read.scan(save_hf(tensors, tmp_path / "x"))
  assert_same(found.params, weights.params)


def test_a_head_of_its_own_is_refused(hf, tmp_path):
  tied = hf["language_model.model.embed_tokens.weight"]
  folder = save_hf(hf | {"lm_head.weight": tied + 1}, tmp_path / "x")
  with pytest.raises(errors.CheckpointError, match="lm_head.*ties"):
    read.scan(folder)


def test_two_spellings_of_one_tensor_are_refused(hf, tmp_path):
  key = "multi_modal_projector.linear.bias"
  with pytest.raises(errors.CheckpointError, match="second tensor"):
    read.scan(save_hf(hf | {f"model.{key}": hf[key]}, tmp_path / "x"))


def test_heads_come_from_the_config_or_must_be_stated(
    weights, hf, tmp_path):
  bare = tmp_path / "bare"
  save_hf(hf, bare)
  (bare / "config.json").unlink()
  found = read.scan(str(bare))
  assert found.heads is None
  with pytest.raises(errors.CheckpointError, match="--heads"):
    write.write(str(tmp_path / "x.npz"), found, column="bv")
  stated = {"vision": 3, "text": 6, "kv": 2}
  assert_same(read.scan(str(bare), heads=stated).params, weights.params)
  with pytest.raises(errors.CheckpointError, match="no multiple of 5 vision"):
    read.scan(str(bare), heads=stated | {"vision": 5})
  other = save_hf(hf, tmp_path / "other", heads=(2, 6, 2))
  like = {part: trees.shapes(SIZES)[part] for part in ("img", "llm")}
  with pytest.raises(errors.CheckpointError, match="2 vision.*the model 3"):
    read.scan(other, like)


def test_the_published_sizes_need_no_config():
  assert infer.published_heads({"img/head/kernel": (1152, 2048)}) == {
      "vision": 16, "text": 8, "kv": 1}
  assert infer.published_heads({"img/head/kernel": (1152, 64)}) is None


def test_the_exported_config_tells_what_the_weights_are(weights, files):
  with open(f"{files['hf']}/config.json", encoding="utf-8") as file:
    config = json.load(file)
  assert config == hf_config.of(
      blocks.shapes_of(weights.params), weights.heads, "float32")
  text, vision = config["text_config"], config["vision_config"]
  assert (text["num_hidden_layers"], text["head_dim"], text["vocab_size"],
          text["intermediate_size"]) == (5, 6, 128, 24)
  assert (vision["image_size"], vision["num_hidden_layers"],
          vision["hidden_size"]) == (6, 3, 12)
  assert config["image_token_index"] == 64


def test_a_gemma_with_a_key_head_per_query_head_is_refused(
    weights, files, hf, tmp_path):
  with np.load(files["x.npz"]) as file:
    arrays = {key: file[key] for key in file.files}
  arrays["params/llm/layers/attn/qkv_einsum/w"] = arrays.pop(
      "params/llm/layers/attn/q_einsum/w")
  np.savez(tmp_path / "x.npz", **arrays)
  key = "language_model.model.layers.0.self_attn.{}_proj.weight"
  same = hf | {key.format("k"): hf[key.format("q")]}
  for path in (str(tmp_path / "x.npz"), save_hf(same, tmp_path / "hf")):
    with pytest.raises(errors.CheckpointError, match="key head for every"):
      read.scan(path)
  packed = trees.paligemma(SIZES | dict(kv_heads=6))
  with pytest.raises(errors.CheckpointError, match="key heads for 6 query"):
    write.write(str(tmp_path / "y.npz"), packed, column="bv")


def test_pages_pointers_and_other_files_are_told_apart(tmp_path):
  for name, content, told in (
      ("a.npz", b"<!DOCTYPE html><title>403</title>", "accept the licence"),
      ("b.safetensors", b'{"error":"Access restricted"}', "accept the licence"),
      ("c.npz", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
      ("d.pt", b"\x80\x02}q\x00.", "before 1.6")):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(errors.CheckpointError, match=told):
      read.scan(str(path))
  np.savez(tmp_path / "e.npz", weight=np.zeros(3, np.float32))
  with pytest.raises(errors.CheckpointError, match="no DriveMoE, PaliGemma"):
    read.scan(str(tmp_path / "e.npz"))


def test_truncated_and_wrong_npz_are_named(files, tmp_path):
  with open(files["x.npz"], "rb") as file:
    whole = file.read()
  (tmp_path / "cut.npz").write_bytes(whole[:-200])
  with pytest.raises(errors.CheckpointError, match="cut.npz is no whole"):
    read.scan(str(tmp_path / "cut.npz"))
  with np.load(files["x.npz"]) as file:
    arrays = {key: file[key] for key in file.files}
  key = "params/img/head/kernel"
  for value, told in ((arrays[key].astype(np.float64), "float64"),
                      (np.asfortranarray(arrays[key]), "Fortran order"),
                      (arrays[key].astype(object), "object")):
    np.savez(tmp_path / "bad.npz", **arrays | {key: value})
    with pytest.raises(errors.CheckpointError, match=told):
      read.scan(str(tmp_path / "bad.npz"))


def test_twelve_layers_do_not_fit_eighteen(files):
  deeper = trees.shapes(SIZES | dict(layers=7))
  like = {part: deeper[part] for part in ("img", "llm")}
  for path in files.values():
    with pytest.raises(errors.CheckpointError, match="reshaped|missing"):
      read.scan(path, like)


def test_an_official_file_gives_its_paligemma_back(weights, files, tmp_path):
  tree = trees.shapes(SIZES)
  alone = {part: tree[part] for part in ("img", "llm")}
  ours = trees.random_weights(tree)
  ours.params.update(read.load(files["hf"], alone).params)
  official = write.write(str(tmp_path / "x.pt"), ours)
  found = read.scan(official, heads=weights.heads)
  with pytest.raises(errors.CheckpointError, match="--final-norm"):
    write.write(str(tmp_path / "y.npz"), found, column="bv")
  found.carried.update(weights.carried)
  for target, column in (("y.npz", "bv"), ("y", "hf")):
    path = write.write(str(tmp_path / target), found, column=column)
    first = files["x.npz" if column == "bv" else "hf"]
    a, b = read.scan(path), read.scan(first)
    assert_same(a.params, b.params)
    assert_same(a.carried, b.carried)


def test_big_vision_leaves_are_the_frozen_ones(files):
  keys = json.loads((trees.HERE / "official_keys.json").read_text())
  with np.load(files["x.npz"]) as file:
    assert sorted(file.files) == sorted(keys["big_vision"])
    assert all(file[k].ndim == len(v) for k, v in keys["big_vision"].items())


def test_equal_means_every_bit():
  zeros = np.zeros(3, np.float32)
  assert tensors_lib.same(zeros, zeros.copy())
  assert not tensors_lib.same(zeros, -zeros)
  assert not tensors_lib.same(zeros, zeros.astype(np.float16))
  nan = np.full(2, np.nan, np.float32)
  assert tensors_lib.same(nan, nan.copy())
