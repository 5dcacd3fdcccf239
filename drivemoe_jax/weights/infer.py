"""The shape of our tree, read off an official file's keys and shapes."""

import re

from data_pipeline import errors
from drivemoe_jax.weights import names


def shapes(official, path):
  """{path: shape} of our tree from {key: shape} of an official file.

  A file does not tell heads from head widths: every head axis becomes 1 and
  its width N*H. Blocks of such a tree hold the same numbers in the same order.

  Args:
    official: {key: shape}. path: the file's, for messages.

  Raises:
    CheckpointError: a kind of tensor is missing, or has another rank.
  """
  moe = len({m[1] for m in _all(r".*\.action\.layers\.(\d+)\.mlp\.s[a-z]+_exp",
                                official)})
  kind = {"moe": moe, "adaptive": any("to_gamma" in k for k in official),
          "zero": any("to_adaln_zero" in k for k in official),
          "camera": any(k.startswith("camera_router.") for k in official),
          "views": "view_embeddings.weight" in official}
  layers = _count(r"joint_model\.mixtures\.vlm\.layers\.(\d+)\.", official)
  groups = {"dense": (0, layers - max(moe, 1)),
            "moe": (layers - moe, max(moe - 1, 0)),
            "last": (layers - 1, min(layers, 1)),
            None: (0, _count(r"vision_tower\..*\.layers\.(\d+)\.", official))}
  sizes = {"expert": sum(
      _count(rf".*\.action\..*\.{skill}_experts\.(\d+)\.", official)
      for skill in ("skill", "shared")), 0: 2, 1: 2}
  found, missing = {}, []
  for name in names.NAMES:
    for group in names.GROUPS if "{group}" in name.ours else (None,):
      start, sizes["layer"] = groups[group]
      empty = group and sizes["layer"] <= 0
      if empty or not name.official or not _wanted(name.ours, group, kind):
        continue
      key = name.official.format(layer=start, expert="skill_experts.0")
      if key not in official:
        missing.append(key)
        continue
      block = _block(path, key, official[key], name)
      found[name.ours.format(group=group)] = (
          *(sizes[axis] for axis in name.axes), *block)
  if missing:
    raise errors.CheckpointError(
        f"{path} is no whole official file: {len(missing)} kinds of tensor are "
        f"missing, as {', '.join(missing[:5])}; name an official one")
  return found


def _wanted(ours, group, kind):
  """Whether a model of this kind has such a leaf in that scan group."""
  if ours.startswith("router/camera/"):
    return kind["camera"]
  if ours.startswith("router/skill/"):
    return kind["moe"]
  if ours == "view_embedding":
    return kind["camera"] or kind["views"]
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
