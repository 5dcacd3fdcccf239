"""The shape of our tree, read off a file's keys and shapes."""

import re

from data_pipeline import errors
from drivemoe_jax.weights import names

# The published PaliGemma, by (vision, language) width: attention heads.
PUBLISHED = {(1152, 2048): {"vision": 16, "text": 8, "kv": 1}}


def shapes(found, column, path):
  """{path: shape} of our tree from {key: shape} of a file.

  Torch files do not tell heads from head widths: every head axis becomes 1 and
  its width N*H (see with_heads). Blocks of such a tree hold the same numbers in
  the same order. PaliGemma alone has one scan group, "dense".

  Args:
    found: {key: shape}. column: whose keys, as in names.entries.
    path: the file's, for messages.

  Raises:
    CheckpointError: a kind of tensor is missing, or has another rank.
  """
  if column == "bv":
    return _of_big_vision(found)
  moe = len({m[1] for m in _all(r".*\.action\.layers\.(\d+)\.mlp\.s[a-z]+_exp",
                                found)})
  kind = {"moe": moe, "adaptive": any("to_gamma" in k for k in found),
          "zero": any("to_adaln_zero" in k for k in found),
          "camera": any(k.startswith("camera_router.") for k in found),
          "views": "view_embeddings.weight" in found,
          "stem": any(".embeddings.stem." in k for k in found)}
  layers = _count(r"(?:joint_model\.mixtures\.vlm|language_model\.model)"
                  r"\.layers\.(\d+)\.", found)
  groups = {"dense": (0, layers - max(moe, 1)),
            "moe": (layers - moe, max(moe - 1, 0)),
            "last": (layers - 1, min(layers, 1)),
            None: (0, _count(r"vision_tower\..*\.layers\.(\d+)\.", found))}
  if column == "hf":
    groups |= {"dense": (0, layers), "moe": (0, 0), "last": (0, 0)}
  sizes = {"expert": sum(
      _count(rf".*\.action\..*\.{skill}_experts\.(\d+)\.", found)
      for skill in ("skill", "shared")), 0: 2, 1: 2}
  tree, missing = {}, []
  for name in names.NAMES:
    theirs = getattr(name, column)
    for group in names.GROUPS if "{group}" in name.ours else (None,):
      start, sizes["layer"] = groups[group]
      empty = group and sizes["layer"] <= 0
      if empty or not theirs or not _wanted(name.ours, group, kind):
        continue
      key = theirs.format(layer=start, expert="skill_experts.0")
      if key not in found:
        missing.append(key)
        continue
      block = _block(path, key, found[key], name)
      tree[name.ours.format(group=group)] = (
          *(sizes[axis] for axis in name.axes), *block)
  if missing:
    whole = {"official": "official", "hf": "PaliGemma"}[column]
    raise errors.CheckpointError(
        f"{path} is no whole {whole} file: {len(missing)} kinds of tensor are "
        f"missing, as {', '.join(missing[:5])}; name a whole one")
  return tree


def _of_big_vision(found):
  tree = {}
  for key, shape in found.items():
    if not key.startswith("params/"):
      continue  # of a trainer's optimiser
    ours = key.removeprefix("params/").replace("llm/layers/",
                                               "llm/layers/dense/")
    if ours == names.TABLE and shape[0] % 64 == 0:
      shape = (shape[0] + 64, *shape[1:])
    tree[ours] = tuple(shape)
  return tree


def heads(tree):
  """{"vision", "text", "kv": number} of attention heads in a tree of ours."""
  found = {}
  for path, shape in tree.items():
    if path.endswith("MultiHeadDotProductAttention_0/query/kernel"):
      found["vision"] = shape[-2]
    elif re.fullmatch(r"llm/.*/q_einsum/w", path):
      found["text"] = shape[-3]
    elif re.fullmatch(r"llm/.*/kv_einsum/w", path):
      found["kv"] = shape[-3]
  return found


def published_heads(tree):
  """Heads of the published PaliGemma if the tree has its widths, else None."""
  widths = tree.get("img/head/kernel", ())
  return PUBLISHED.get(tuple(widths))


def with_heads(tree, count):
  """The tree of `shapes` with real head axes.

  Args:
    tree: {path: shape} in which head axes are 1.
    count: {"vision", "text", "kv"}.

  Raises:
    CheckpointError: a width that is no multiple of its heads.
  """
  rules = (  # leaf, heads, head axis, width axis
      (r"img/.*/(query|key|value)/(kernel|bias)", "vision", -2, -1),
      (r"img/.*/out/kernel", "vision", -3, -2),
      (r"(llm|expert)/.*/q_einsum/w", "text", -3, -1),
      (r"(llm|expert)/.*/kv_einsum/w", "kv", -3, -1),
      (r"(llm|expert)/.*/attn_vec_einsum/w", "text", -3, -2))
  split = {}
  for path, shape in tree.items():
    shape = list(shape)
    for pattern, which, axis, width in rules:
      if re.fullmatch(pattern, path):
        if shape[width] % count[which]:
          raise errors.CheckpointError(
              f"{path}: width {shape[width]} is no multiple of {count[which]} "
              f"{which} heads; state the file's own")
        shape[axis], shape[width] = count[which], shape[width] // count[which]
    split[path] = tuple(shape)
  return split


def _wanted(ours, group, kind):
  """Whether a model of this kind has such a leaf in that scan group."""
  if ours.startswith("router/camera/"):
    return kind["camera"]
  if ours.startswith("router/skill/"):
    return kind["moe"]
  if ours == "view_embedding":
    return kind["camera"] or kind["views"]
  if ours.startswith("img/embedding/"):
    return kind["stem"] != (ours in ("img/embedding/kernel",
                                     "img/embedding/bias"))
  expert = ours.startswith("expert/")
  if expert and (ours.startswith("expert/shared/") !=
                 (not kind["moe"] or group == "dense")):
    return False
  if re.search(r"norm/(gamma|beta)/", ours):
    return expert and kind["adaptive"]
  if ours.endswith("norm/scale") and expert:
    return not kind["adaptive"]
  if re.search(r"/(attn|mlp)_scale/", ours):
    return expert and kind["zero"]
  if re.search(r"\}/(moe|mlp)/", ours):
    return ("/moe/" in ours) == ours.startswith("expert/action/")
  return True


def _block(path, key, shape, name):
  """Our block's shape for a torch shape; of a packed tensor, its part's."""
  try:
    rows, *rest = shape
    return name.transform.our_shape((rows // name.packed[1], *rest))
  except ValueError:
    raise errors.CheckpointError(
        f"{path}: {key} has shape {tuple(shape)}, another rank than in the "
        "official format; export the file again") from None


def _all(pattern, keys):
  return [m for m in (re.match(pattern, key) for key in keys) if m]


def _count(pattern, keys):
  return 1 + max((int(m[1]) for m in _all(pattern, keys)), default=-1)
