"""The shape of our tree, read off an official file's keys and shapes."""

import re

from data_pipeline import errors
from drivemoe_jax.weights import names


def shapes(official):
  """{path: shape} of our tree from {key: shape} of an official file.

  A file does not tell heads from head widths: every head axis becomes 1 and
  its width N*H. Blocks of such a tree hold the same numbers in the same order.

  Raises:
    CheckpointError: a tensor of another rank than the format's.
  """
  layers = _count(r"joint_model\.mixtures\.vlm\.layers\.(\d+)\.", official)
  expert = r"\.mlp\.(?:skill|shared)_experts\.\d+\.gate_proj"
  moe = len({m[1] for m in _matches(r".*action\.layers\.(\d+)" + expert,
                                    official)})
  experts = sum(_count(rf".*action\.layers\.\d+\.mlp\.{kind}_experts\.(\d+)\.",
                       official) for kind in ("skill", "shared"))
  groups = {"dense": (0, layers - max(moe, 1)),
            "moe": (layers - moe, max(moe - 1, 0)), "last": (layers - 1, 1)}
  vision = _count(r"vision_tower\..*\.encoder\.layers\.(\d+)\.", official)
  sizes = {"expert": experts, 0: 2, 1: 2}
  found = {}
  for name in names.NAMES:
    for group in names.GROUPS if "{group}" in name.ours else (None,):
      start, count = groups.get(group, (0, vision))
      key = name.official and name.official.format(
          layer=start, expert="skill_experts.0")
      if (key not in official or count <= 0
          or not _has(name.ours, group, moe)):
        continue
      try:
        rows, *rest = official[key]
        block = name.transform.our_shape((rows // name.packed[1], *rest))
      except ValueError:
        raise errors.CheckpointError(
            f"{key} has shape {tuple(official[key])}, which is not its rank "
            "in the official format; export the file again") from None
      lead = [count if a == "layer" else sizes[a] for a in name.axes]
      found[name.ours.format(group=group)] = (*lead, *block)
  return found


def _has(ours, group, moe):
  """Whether a model with `moe` MoE layers keeps this stream's group apart."""
  if ours.startswith("expert/shared/"):
    return not moe or group == "dense"
  if ours.startswith("expert/"):
    return moe and group != "dense"
  return True


def _matches(pattern, keys):
  return [m for m in (re.match(pattern, key) for key in keys) if m]


def _count(pattern, keys):
  return 1 + max((int(m[1]) for m in _matches(pattern, keys)), default=-1)
