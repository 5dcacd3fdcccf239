"""Whose names a file bears, and the one spelling of each of them.

Hugging Face has written PaliGemma in three spellings, torch.compile prefixes
what it wraps, and big_vision's trees come with and without `params/`.
"""

import re

from data_pipeline import errors
from drivemoe_jax.weights import names, tensors

_SHARED = ("vision_tower", "multi_modal_projector")  # official and HF alike
_OFFICIAL = {name.official.split(".")[0] for name in names.NAMES
             if name.official} - set(_SHARED) | {"criterion"}
_HEADS = ("lm_head.weight", "language_model.lm_head.weight")
_TABLE = "language_model.model.embed_tokens.weight"
_ROWS = 1 << 14  # of a token table that are compared at once


def normalise(path, found):
  """Column and {key in its one spelling: Tensor} of a file.

  Args:
    path: for messages. found: {key as it stands: tensors.Tensor}.

  Raises:
    CheckpointError: no known names, two spellings of one name, or a kind of
      model that this one is not.
  """
  column = _column(path, found)
  spell = {"official": _official, "hf": _hugging_face, "bv": _big_vision,
           "pi0": str}[column]
  spelled = {}
  for key, tensor in found.items():
    name = spell(key)
    if name in spelled:
      raise errors.CheckpointError(
          f"{path}: a second tensor {name} ({key}); remove one of the two")
    spelled[name] = tensor
  _refuse_multi_head(path, spelled)
  return column, _untied(path, spelled) if column == "hf" else spelled


def _column(path, keys):
  roots = {re.split(r"[./]", key.replace("_orig_mod.", ""))[0] for key in keys}
  if roots & _OFFICIAL:
    return "official"
  if "PaliGemma" in roots:
    return "pi0"
  if roots & {"params", "img", "llm"}:
    return "bv"
  if roots & {"model", "language_model", *_SHARED}:
    return "hf"
  raise errors.CheckpointError(
      f"{path} holds no DriveMoE, PaliGemma or pi0 weights: its first names "
      f"are {', '.join(sorted(keys)[:3])}; name another file")


def _official(key):
  return key.replace("_orig_mod.", "")


def _big_vision(key):
  # A trainer's tree has other roots beside params/, which stay as they are.
  return f"params/{key}" if key.startswith(("img/", "llm/")) else key


def _hugging_face(key):
  """Any of the spellings -> the one that the published files have."""
  key = key.removeprefix("model.")
  if key in _HEADS:
    return key
  key = re.sub(r"^vision_tower\.(?!vision_model\.)",
               "vision_tower.vision_model.", key)
  key = re.sub(r"^multi_modal_projector\.(?!linear\.)",
               "multi_modal_projector.linear.", key)
  return re.sub(r"^language_model\.(?!model\.)", "language_model.model.", key)


def _untied(path, found):
  """Leaves the output head out, which must be the token table."""
  for head in _HEADS:
    if head not in found or _TABLE not in found:
      continue
    a, b = found[head], found[_TABLE]
    equal = a.place == b.place or a.shape == b.shape and all(
        tensors.same(a.rows(i, min(i + _ROWS, a.shape[0])),
                     b.rows(i, min(i + _ROWS, a.shape[0])))
        for i in range(0, a.shape[0], _ROWS))
    if not equal:
      raise errors.CheckpointError(
          f"{path}: {head} differs from the token table, to which PaliGemma "
          "ties it; the model has no such head, remove the tensor")
  return {key: t for key, t in found.items() if key not in _HEADS}


def _refuse_multi_head(path, found):
  """Gemma with as many key heads as query heads packs them otherwise."""
  packed = [key for key in found if "qkv_einsum" in key]
  query, key = (f"language_model.model.layers.0.self_attn.{x}_proj.weight"
                for x in "qk")
  if not packed and query in found and key in found and (
      found[query].shape == found[key].shape):
    packed = [key]
  if packed:
    raise errors.CheckpointError(
        f"{path}: {packed[0]} belongs to a Gemma with a key head for every "
        "query head; this model shares them, name a PaliGemma-3B file")
