"""The name table: every parameter once, every official key once, right sizes.

official_keys.json counts the official keys by pattern; it was drawn up from
the format's description, not from the table.
"""

import collections
import json
import math
import pathlib
import re

import numpy as np
import pytest
import safetensors.numpy

from data_pipeline import errors
from drivemoe_jax.weights import blocks, infer, names
from tests.weights import trees

KEYS = json.loads(
    (pathlib.Path(__file__).parent / "official_keys.json").read_text())


@pytest.fixture(scope="module", params=["drivemoe", "drive_pi0"])
def full(request):
  """(kind, {path: shape}) at full size."""
  sizes = trees.FULL | (trees.PI0 if request.param == "drive_pi0" else {})
  return request.param, blocks.shapes_of(trees.shapes(sizes))


def every_key(shapes):
  tensors = {}
  for entry in names.entries(shapes):
    for key in (entry.key, *entry.aliases):
      assert key not in tensors, f"{key} comes twice"
      tensors[key] = entry.shape
  return tensors | dict(names.alphas(shapes).values())


def test_full_size_has_the_official_counts(full):
  kind, shapes = full
  unique, keys, elements = {
      "drivemoe": (3_678_807_160, 1042, 3_921_056_900),
      "drive_pi0": (3_238_093_554, 938, 3_549_558_514)}[kind]
  tensors = every_key(shapes)
  assert sum(map(math.prod, shapes.values())) == unique
  assert len(tensors) == keys
  assert sum(map(math.prod, tensors.values())) == elements


def test_full_size_has_the_official_keys(full):
  kind, shapes = full
  found = collections.Counter(
      re.sub(r"(layers|skill_experts|shared_experts)\.\d+", r"\1.*", key)
      for key in every_key(shapes))
  assert dict(found) == KEYS[kind]


def test_every_parameter_is_covered_exactly_once(odd):
  tree, _ = odd
  seen = {path: np.zeros(s, int) for path, s in blocks.shapes_of(tree).items()}
  for entry in names.entries(blocks.shapes_of(tree)):
    for piece in entry.pieces:
      seen[piece.path][piece.at] += 1
  assert all((count == 1).all() for count in seen.values())


def test_a_stem_of_convolutions_has_names_of_its_own():
  """So that a run starts from another; nobody else's model has them."""
  tree = trees.shapes(trees.ODD | dict(vision_stem="conv", patch_size=4,
                                       image_size=8))
  named = {e.key: e.shape for e in names.entries(blocks.shapes_of(tree))}
  stem = {key: shape for key, shape in named.items() if "stem" in key}
  assert {key.rpartition("stem.")[2]: shape for key, shape in stem.items()} == {
      "Conv_0.weight": (3, 3, 3, 3), "Conv_0.bias": (3,),
      "Conv_1.weight": (6, 3, 3, 3), "Conv_1.bias": (6,),
      "patches.weight": (12, 6, 1, 1), "patches.bias": (12,)}
  assert not any("patch_embedding" in key for key in named)
  both = infer.shapes(named, "official", "x")
  assert {p for p in both if p.startswith("img/")} == {
      p for p in blocks.flatten(tree) if p.startswith("img/")}


def test_an_unknown_parameter_is_an_error():
  with pytest.raises(ValueError, match="no name for parameter 'io/extra'"):
    names.entries({"io/extra": (3,)})


def test_layers_and_experts_are_numbered_across_groups():
  tree = trees.shapes(trees.ODD)             # 5 layers: 2 dense, 2, 1
  found = {e.key: e.pieces[0] for e in names.entries(blocks.shapes_of(tree))}
  mix = "joint_model.mixtures"
  piece = found[f"{mix}.action.layers.3.mlp.skill_experts.2.up_proj.weight"]
  assert (piece.path, piece.index) == (
      "expert/action/layers/moe/moe/gating_einsum", (1, 2, 1))
  piece = found[f"{mix}.action.layers.4.mlp.shared_experts.1.down_proj.weight"]
  assert (piece.path, piece.index) == (
      "expert/action/layers/last/moe/linear", (0, 5))
  piece = found[f"{mix}.vlm.layers.4.self_attn.v_proj.weight"]
  assert (piece.path, piece.index) == (
      "llm/layers/last/attn/kv_einsum/w", (0, 1))
  piece = found[f"{mix}.proprio.layers.2.mlp.gate_proj.weight"]
  assert (piece.path, piece.index) == (
      "expert/proprio/layers/moe/mlp/gating_einsum", (0, 0))


def test_torch_rows_run_over_heads_first():
  w = np.arange(2 * 3 * 4).reshape(2, 3, 4)        # [N,D,H]
  rows = names.HEADS_OUT.to_torch(w)               # [N*H,D]
  np.testing.assert_array_equal(rows[4 + 1], w[1, :, 1])
  w = np.arange(2 * 4 * 3).reshape(2, 4, 3)        # [N,H,D]
  columns = names.HEADS_IN.to_torch(w)             # [D,N*H]
  np.testing.assert_array_equal(columns[:, 4 + 1], w[1, 1])


def test_every_transform_inverts():
  rng = np.random.default_rng(0)
  for name in names.NAMES:
    rank = 1 + max(max(f) for f in name.transform.axes or ((2,),))
    shape = (1, 3, 4, 5)[:rank]
    block = rng.random(shape)
    tensor = name.transform.to_torch(block)
    assert tensor.shape == name.transform.torch_shape(shape)
    np.testing.assert_array_equal(
        name.transform.from_torch(tensor, shape), block)


def test_the_camera_routers_input_projection_is_query_key_value():
  tree = trees.shapes(trees.ODD)
  params = blocks.flatten(trees.random_weights(tree).params)
  tensors = dict(names.to_official(params))
  d, parts = trees.ODD["vlm_width"], ("query", "key", "value")
  for i, part in enumerate(parts):
    weight = tensors["camera_router.cross_attn.in_proj_weight"]
    kernel = params[f"router/camera/attn/{part}/kernel"]  # [D,N,H]
    np.testing.assert_array_equal(
        weight[i * d:(i + 1) * d], kernel.reshape(d, d).T)
    bias = tensors["camera_router.cross_attn.in_proj_bias"]
    np.testing.assert_array_equal(
        bias[i * d:(i + 1) * d],
        params[f"router/camera/attn/{part}/bias"].ravel())


def test_both_streams_get_what_they_share():
  weights = trees.random_weights(trees.shapes(trees.ODD))
  tensors = dict(names.to_official(weights.params))
  key = "joint_model.mixtures.{}.layers.1.mlp.up_proj.weight"
  np.testing.assert_array_equal(
      tensors[key.format("action")], tensors[key.format("proprio")])
  tied = [e for e in names.entries(blocks.shapes_of(weights.params))
          if e.aliases]
  assert len(tied) == 2 * 9  # two shared layers of nine tensors


def test_the_tree_inferred_from_a_file_names_the_same_file(odd):
  tree, _ = odd
  wanted = every_key(blocks.shapes_of(tree))
  inferred = infer.shapes(wanted, "official", "x")
  assert inferred.keys() == blocks.shapes_of(tree).keys()
  assert every_key(inferred) == wanted


def test_a_file_without_some_kind_of_tensor_is_not_whole(odd):
  tree, _ = odd
  wanted = every_key(blocks.shapes_of(tree))
  pattern = lambda key: re.sub(r"\d+", "*", key)
  for dropped in sorted({pattern(key) for key in wanted}):
    rest = {k: v for k, v in wanted.items() if pattern(k) != dropped}
    try:
      again = infer.shapes(rest, "official", "x")
    except errors.CheckpointError:
      continue
    # Fixed views keep an embedding that a front-only model is whole without.
    assert every_key(again) != rest or dropped == "view_embeddings.weight"


def test_a_file_without_layers_is_told_by_what_else_it_lacks():
  with pytest.raises(errors.CheckpointError, match="embed_tokens") as caught:
    infer.shapes({"view_embeddings.weight": (5, 4)}, "official", "x")
  assert "layers.-1" not in str(caught.value)


def test_paligemma_columns_have_the_frozen_keys(full):
  _, shapes = full
  shapes = shapes | {"llm/final_norm/scale": (2048,)}
  hf = names.entries(shapes, "hf")
  found = collections.Counter(
      re.sub(r"layers\.\d+", "layers.*", e.key) for e in hf)
  assert dict(found) == KEYS["hugging_face"] and len(hf) == 603
  assert sum(math.prod(e.shape) for e in hf) == 2_923_466_480
  bv = {e.key: list(e.shape) for e in names.entries(shapes, "bv")}
  assert bv == KEYS["big_vision"] and len(bv) == 32
  assert sum(map(math.prod, bv.values())) == 2_923_335_408


def test_paligemma_columns_agree_on_reference_weights(shared):
  folder = shared / "golden" / "paligemma"
  with np.load(folder / "bv_tiny.npz") as file:
    bv = {k.removeprefix("params/"): file[k] for k in file.files}
  hf = safetensors.numpy.load_file(folder / "hf_tiny.safetensors")
  leaves = {}
  for path, value in bv.items():  # big_vision's stacks as one scan group
    leaves[path.replace("llm/layers/", "llm/layers/dense/")] = value
  table = bv["llm/embedder/input_embedding"]
  leaves[names.TABLE] = np.pad(table, ((0, 64), (0, 0)))
  found = {e.key: e for e in names.entries(blocks.shapes_of(leaves), "hf")}
  assert found.keys() == hf.keys()
  for key, entry in found.items():
    rows = len(table) if "embed_tokens" in key else None
    np.testing.assert_array_equal(entry.gather(leaves)[:rows], hf[key][:rows])
  for entry in names.entries(blocks.shapes_of(leaves), "bv"):
    np.testing.assert_array_equal(
        entry.gather(leaves), bv[entry.key.removeprefix("params/")])
