"""One table of parameter names: ours <-> official torch, Hugging Face, bv.

NAMES says which block of which leaf is which tensor: the leading axes (layer,
expert, half) picked off, the rest transposed and fused. Every reader, writer
and test derives from it. "Half" is key or value in kv_einsum [..,2,K,D,H],
gate or up in gating_einsum [..,2,D,F]. Nothing here knows a config: depth,
experts and mode are read off the tree's shapes.
"""

import collections
import itertools
import math
import re

from drivemoe_jax.weights import blocks
from drivemoe_jax.weights.blocks import (
  BIAS_HEADS,
  CONV,
  COPY,
  DENSE_HEADS,
  HEADS_IN,
  HEADS_OUT,
  POSITIONS,
  TRANSPOSE,
  Name,
)

GROUPS = ("dense", "moe", "last")  # scan groups, in the order of the layers
_GROUP = re.compile(r"layers/(dense|moe|last)/")
TABLE = "llm/embedder/input_embedding"
STACKED = ("bv", "pi0")  # columns whose tensors stack every layer
CHUNK = 1 << 25  # elements that are moved at once, where rows can be cut

_DENSE = (("kernel", "weight", TRANSPOSE), ("bias", "bias", COPY))
_HEADS = (("kernel", "weight", DENSE_HEADS), ("bias", "bias", BIAS_HEADS))
_AFFINE = (("scale", "weight", COPY), ("bias", "bias", COPY))
# Gemma's norm and the adaptive norm that takes its place in expert streams.
_NORM = (
    ("scale", "weight", COPY),
    ("gamma/kernel", "to_gamma.0.weight", TRANSPOSE),
    ("gamma/bias", "to_gamma.0.bias", COPY),
    ("beta/kernel", "to_beta.weight", TRANSPOSE),
)


def _cross(ours, theirs, leaves):
  """Puts a module's two names before its leaves' names."""
  return tuple((f"{ours}/{a}", f"{theirs}.{b}", t) for a, b, t in leaves)


_MHA = "MultiHeadDotProductAttention_0"
_VISION_LAYER = (
    *_cross("LayerNorm_0", "layer_norm1", _AFFINE),
    *_cross(f"{_MHA}/query", "self_attn.q_proj", _HEADS),
    *_cross(f"{_MHA}/key", "self_attn.k_proj", _HEADS),
    *_cross(f"{_MHA}/value", "self_attn.v_proj", _HEADS),
    (f"{_MHA}/out/kernel", "self_attn.out_proj.weight", HEADS_IN),
    (f"{_MHA}/out/bias", "self_attn.out_proj.bias", COPY),
    *_cross("LayerNorm_1", "layer_norm2", _AFFINE),
    *_cross("MlpBlock_0/Dense_0", "mlp.fc1", _DENSE),
    *_cross("MlpBlock_0/Dense_1", "mlp.fc2", _DENSE),
)
_IMAGE = (
    ("embedding/kernel", "embeddings.patch_embedding.weight", CONV),
    ("embedding/bias", "embeddings.patch_embedding.bias", COPY),
    # Of model.vision_stem=conv, which only runs hold: nobody else's names.
    *(leaf for part in ("Conv_0", "Conv_1", "patches")
      for leaf in _cross(f"embedding/{part}", f"embeddings.stem.{part}",
                         (("kernel", "weight", CONV), ("bias", "bias", COPY)))),
    ("pos_embedding", "embeddings.position_embedding.weight", POSITIONS),
    *_cross("Transformer/encoder_norm", "post_layernorm", _AFFINE),
)
_LAYER = (  # leaf, axes after the layer, official leaf, transform
    *((a, (), b, t) for a, b, t in (
        *_cross("pre_attention_norm", "input_layernorm", _NORM),
        *_cross("pre_ffw_norm", "post_attention_layernorm", _NORM),
        *_cross("attn_scale", "post_adaptive_scale.to_adaln_zero_gamma",
                _DENSE),
        *_cross("mlp_scale", "final_adaptive_scale.to_adaln_zero_gamma",
                _DENSE))),
    ("attn/q_einsum/w", (), "self_attn.q_proj.weight", HEADS_OUT),
    ("attn/kv_einsum/w", (0,), "self_attn.k_proj.weight", HEADS_OUT),
    ("attn/kv_einsum/w", (1,), "self_attn.v_proj.weight", HEADS_OUT),
    ("attn/attn_vec_einsum/w", (), "self_attn.o_proj.weight", HEADS_IN),
    ("mlp/gating_einsum", (0,), "mlp.gate_proj.weight", TRANSPOSE),
    ("mlp/gating_einsum", (1,), "mlp.up_proj.weight", TRANSPOSE),
    ("mlp/linear", (), "mlp.down_proj.weight", TRANSPOSE),
    ("moe/gating_einsum", ("expert", 0), "mlp.{expert}.gate_proj.weight",
     TRANSPOSE),
    ("moe/gating_einsum", ("expert", 1), "mlp.{expert}.up_proj.weight",
     TRANSPOSE),
    ("moe/linear", ("expert",), "mlp.{expert}.down_proj.weight", TRANSPOSE),
)
_CAMERA = (
    ("query", "router_query", COPY),
    *_cross("waypoint_in", "waypoint_projector.0", _DENSE),
    *_cross("waypoint_out", "waypoint_projector.2", _DENSE),
    ("attn/out/kernel", "cross_attn.out_proj.weight", HEADS_IN),
    ("attn/out/bias", "cross_attn.out_proj.bias", COPY),
    *_cross("norm", "ln", _AFFINE),
    *_cross("mlp_in", "mlp.0", _DENSE),
    *_cross("mlp_out", "mlp.3", _DENSE),
)
_IO = (
    *_cross("action_in/linear_1", "action_encoder.linear_1", _DENSE),
    *_cross("action_in/linear_2", "action_encoder.linear_2", _DENSE),
    *_cross("action_in/linear_3", "action_encoder.linear_3", _DENSE),
    *_cross("action_out", "action_decoder", _DENSE),
    *_cross("proprio_in", "proprio_encoder", _DENSE),
)
_MIX = "joint_model.mixtures"
_STREAMS = (  # ours, official, Hugging Face, second official name
    ("llm", f"{_MIX}.vlm", "language_model.model", None),
    # The release keeps both streams' copies of what they share; proprio's is
    # the one that its optimiser names.
    ("expert/shared", f"{_MIX}.proprio", None, f"{_MIX}.action"),
    ("expert/proprio", f"{_MIX}.proprio", None, None),
    ("expert/action", f"{_MIX}.action", None, None),
)


def _vision_rows():
  tower = "vision_tower.vision_model"
  for a, b, t in _IMAGE:
    yield Name(f"img/{a}", f"{tower}.{b}", t, hf=f"{tower}.{b}")
  for a, b, t in _VISION_LAYER:
    key = f"{tower}.encoder.layers.{{layer}}.{b}"
    yield Name(f"img/Transformer/encoderblock/{a}", key, t, ("layer",), key)
  for a, b, t in _cross("img/head", "multi_modal_projector.linear", _DENSE):
    yield Name(a, b, t, hf=b)


def _stream_rows():
  for ours, official, hf, alias in _STREAMS:
    for leaf, axes, theirs, transform in _LAYER:
      keys = [p and f"{p}.layers.{{layer}}.{theirs}"
              for p in (official, hf, alias)]
      yield Name(f"{ours}/layers/{{group}}/{leaf}", keys[0], transform,
                 ("layer", *axes), *keys[1:])
    if ours != "llm":
      for leaf, theirs, transform in _NORM:
        yield Name(f"{ours}/final_norm/{leaf}", f"{official}.norm.{theirs}",
                   transform, alias=alias and f"{alias}.norm.{theirs}")


def _router_rows():
  for a, b, t in _CAMERA:
    yield Name(f"router/camera/{a}", f"camera_router.{b}", t)
  # torch packs the three input projections, q over k over v.
  for part, ours in enumerate(("query", "key", "value")):
    for leaf, theirs, transform in _HEADS:
      yield Name(f"router/camera/attn/{ours}/{leaf}",
                 f"camera_router.cross_attn.in_proj_{theirs}", transform,
                 packed=(part, 3))


NAMES = (
    Name(TABLE, "embed_tokens.weight",
         hf="language_model.model.embed_tokens.weight"),
    *_vision_rows(),
    *_stream_rows(),
    # Carried beside the parameters: the release drops it, PaliGemma has it.
    Name("llm/final_norm/scale", None, hf="language_model.model.norm.weight"),
    *_router_rows(),
    Name("router/skill/kernel",
         "joint_model.action_router.router_linear.weight", TRANSPOSE),
    Name("router/skill/temperature", "joint_model.action_router.temperature"),
    Name("view_embedding", "view_embeddings.weight"),
    *(Name(f"io/{a}", b, t) for a, b, t in _IO),
)
ALPHAS = {  # buffers of the focal losses: no parameters, yet in the file
    "camera": "criterion.camera_router_criterion.alpha",
    "skill": "criterion.action_router_criterion.alpha",
}


def entries(shapes, column="official"):
  """The tensors of a file that holds this tree.

  Args:
    shapes: {path: shape} of the parameters (and carried weights).
    column: "official", "hf" (PaliGemma alone), "bv" (the same; one tensor
      stacks every layer) or "pi0" (PaliGemma and a dense expert, likewise).

  Returns:
    Entries in the order of our leaves, so that each is passed once.

  Raises:
    ValueError: a path that NAMES does not know.
  """
  rows = collections.defaultdict(list)
  for name in NAMES:
    rows[name.ours].append(name)
  first = _first_layers(shapes)
  pieces, aliases = collections.defaultdict(list), collections.defaultdict(dict)
  for path in sorted(shapes, key=_group_order):
    template = _GROUP.sub("layers/{group}/", path, count=1)
    if template not in rows:
      raise ValueError(
          f"no name for parameter {path!r}; add a row to weights.names.NAMES")
    wanted = [name for name in rows[template] if getattr(name, column)]
    if column in STACKED:  # halves of a leaf are one tensor there
      wanted = wanted[:1]
    found = [(piece, name, fields) for name in wanted
             for piece, fields in _blocks(name, path, shapes, first, column)]
    for piece, name, fields in sorted(
        found, key=lambda f: (f[0].index, f[0].start)):
      key = getattr(name, column).format(**fields)
      pieces[key].append(piece)
      if column == "official" and name.alias:
        aliases[key][name.alias.format(**fields)] = True
  return [_entry(key, found, tuple(aliases[key]))
          for key, found in pieces.items()]


def alphas(shapes):
  """{"camera" | "skill": (key, shape)} of the focal losses' buffers.

  The release always holds 5 and 7 values; more views need as many.
  """
  found = {}
  if "router/camera/mlp_out/bias" in shapes:
    views = shapes["router/camera/mlp_out/bias"][0]
    found["camera"] = (ALPHAS["camera"], (max(5, views),))
  if "router/skill/kernel" in shapes:
    found["skill"] = (ALPHAS["skill"], (7,))
  return found


def table_rows(ours):
  """Rows of big_vision's token table: PaliGemma's vocabulary without the row
  of the image token and the padding to a multiple of 64 that follow it."""
  return ours - 64 if ours > 64 and ours % 64 == 0 else ours


def to_official(tree):
  """Yields (official key, numpy tensor) for a tree; aliases come twice."""
  leaves = {p: blocks.host(v) for p, v in blocks.flatten(tree).items()}
  for entry in entries(blocks.shapes_of(leaves)):
    tensor = entry.gather(leaves)
    for key in (entry.key, *entry.aliases):
      yield key, tensor


def _group_order(path):
  match = _GROUP.search(path)
  return GROUPS.index(match[1]) if match else -1


def _first_layers(shapes):
  """{"llm/layers/moe/": number of its first layer}, for each stack's groups."""
  count = {}
  for path, shape in shapes.items():
    if match := _GROUP.search(path):
      count[path[:match.end()]] = shape[0]
  first = {}
  shared = count.get("expert/shared/layers/dense/", 0)
  for stack, layer in (("llm", 0), ("expert/shared", 0),
                       ("expert/proprio", shared), ("expert/action", shared)):
    for group in GROUPS:
      prefix = f"{stack}/layers/{group}/"
      first[prefix] = layer
      layer += count.get(prefix, 0)
  return first


def _blocks(name, path, shapes, first, column):
  """Yields (Piece, fields of its key) for one row at one path."""
  shape, match = tuple(shapes[path]), _GROUP.search(path)
  start = first[path[:match.end()]] if match else 0
  if column in STACKED:
    if path == TABLE:
      shape = (table_rows(shape[0]), *shape[1:])
    yield from ((p, {}) for p in _cut(path, (), shape, start))
    return
  ranges = [range(n) if isinstance(a, str) else (a,)
            for a, n in zip(name.axes, shape)]
  for index in itertools.product(*ranges):
    at = dict(zip(name.axes, index))
    fields = {"layer": start + at.get("layer", 0)}
    if "expert" in at:
      e, skills = at["expert"], shapes["router/skill/kernel"][-1]
      fields["expert"] = (f"skill_experts.{e}" if e < skills
                          else f"shared_experts.{e - skills}")
    block, part = shape[len(index):], name.packed[0]
    if name.transform is COPY:
      pieces = _cut(path, index, block, part * block[0])
    else:
      row = part * name.transform.torch_shape(block)[0]
      pieces = [blocks.Piece(path, index, 0, block, name.transform, row)]
    yield from ((piece, fields) for piece in pieces)


def _cut(path, index, shape, row):
  """Pieces of at most CHUNK elements, or one row, that are copied."""
  step = max(1, CHUNK // math.prod(shape[1:]))
  for start in range(0, shape[0], step):
    rows = min(step, shape[0] - start)
    yield blocks.Piece(
        path, index, start, (rows, *shape[1:]), COPY, row + start)


def _entry(key, pieces, aliases):
  pieces = tuple(sorted(pieces, key=lambda piece: piece.row))  # stable
  rest = pieces[0].transform.torch_shape(pieces[0].shape)[1:]
  rows = max(piece.rows[1] for piece in pieces)
  return blocks.Entry(key, (rows, *rest), pieces, aliases)
