"""Where everything lives on the mesh ("data", "fsdp", "expert").

The batch is split over all three axes. Large weights are split over fsdp and
expert, the stacked experts over expert; `data` holds replicas. Models name
their axes, only this file maps names to the mesh, which meshes.py makes. Sizes
are checked here, before anything is compiled.
"""

import contextlib
import math
import re

import flax.linen as nn
import jax
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import errors
from drivemoe_jax import meshes

AXES, make_mesh = meshes.AXES, meshes.make_mesh
resolve, microbatches = meshes.resolve, meshes.microbatches
BATCH = P(AXES)
W = ("fsdp", "expert")  # the axes that split a weight

# Ordered, first full match wins; a parameter without a match is an error.
# Kernels of a stack lead with the layer axis, which is never split. 4304 (the
# vision MLP) divides by 16 only, so SigLIP is split along 1152.
RULES = (
    (r".*/(scale|bias|temperature)", P()),
    (r"expert/.*/moe/gating_einsum", P(None, "expert", None, None, "fsdp")),
    (r"expert/.*/moe/linear", P(None, "expert", "fsdp")),
    (r"(llm|expert)/.*/mlp/gating_einsum", P(None, None, None, W)),
    (r"(llm|expert)/.*/mlp/linear", P(None, W)),
    (r"(llm|expert)/.*/q_einsum/w", P(None, None, W)),
    (r"(llm|expert)/.*/kv_einsum/w", P(None, None, None, W)),
    (r"(llm|expert)/.*/attn_vec_einsum/w", P(None, None, None, W)),
    (r"expert/.*/final_norm/(gamma|beta)/kernel", P(None, W)),
    (r"expert/.*/(gamma|beta|attn_scale|mlp_scale)/kernel", P(None, None, W)),
    (r"llm/embedder/input_embedding", P(W)),
    (r"img/.*/(query|key|value)/kernel", P(None, W)),
    (r"img/.*/out/kernel", P(None, None, None, W)),
    (r"img/.*/Dense_0/kernel", P(None, W)),
    (r"img/.*/Dense_1/kernel", P(None, None, W)),
    (r"img/embedding/(patches/)?kernel", P(None, None, None, W)),
    (r"img/embedding/Conv_./kernel", P()),
    (r"img/head/kernel", P(None, W)),
    (r"img/pos_embedding", P()),
    (r"(router|io)/.*|view_embedding", P()),
)

# Names that the models give to the axes of their activations. Where experts
# meet tokens, the devices of one expert group share their tokens.
ACTIVATIONS = (
    ("batch", AXES),
    ("expert_batch", ("data", "fsdp")),
    ("expert", "expert"),
    ("expert_hidden", "fsdp"),
)


def spec_for(name):
  """PartitionSpec of a parameter by its path.

  Raises:
    ValueError: no rule matches.
  """
  for pattern, spec in RULES:
    if re.fullmatch(pattern, name):
      return spec
  raise ValueError(f"no sharding rule matches parameter {name!r}; add one to "
                   "sharding.RULES")


def specs(params, sizes):
  """PartitionSpec of every parameter, checked against the mesh sizes.

  Raises:
    MeshError: an axis of a parameter is not divisible by its mesh axes; with
      the nearest sizes that divide all parameters.
  """
  tree = jax.tree_util.tree_map_with_path(
      lambda path, _: spec_for(_name(path)), params)
  cuts = [(len(axes), _name(path), x.shape, size, axes)
          for (path, x), spec in zip(
              jax.tree_util.tree_leaves_with_path(params), _leaves(tree))
          for size, axes in zip(x.shape, map(_axes, spec)) if axes]
  uneven = [cut for cut in cuts if cut[3] % _parts(cut[4], sizes)]
  if uneven:  # one that a single axis splits says more than one that two do
    _, name, shape, size, axes = min(uneven)
    raise errors.MeshError(
        f"parameter {name} {tuple(shape)}: {size} is not divisible by "
        f"{'*'.join(axes)} = {_parts(axes, sizes)}. "
        + _nearest({(size, axes) for *_, size, axes in cuts}, axes, sizes))
  return tree


def _nearest(cuts, axes, sizes):
  """Sentence about the sizes closest to `sizes` that satisfy all `cuts`."""
  legal = lambda sizes: all(size % _parts(a, sizes) == 0 for size, a in cuts)
  devices = math.prod(sizes.values())
  near = []
  for axis in axes:
    now = sizes[axis]
    below = [n for n in range(now - 1, 0, -1) if legal(sizes | {axis: n})][:1]
    above = [n for n in range(now + 1, 2 * now) if legal(sizes | {axis: n})][:1]
    near += [f"{axis}={n}" for n in below + above]
  meshes_here = [
      dict(zip(AXES, (devices // (f * e), f, e)))
      for f in range(1, devices + 1) for e in range(1, devices // f + 1)
      if devices % (f * e) == 0]
  best = min(filter(legal, meshes_here), key=lambda m: sum(
      abs(math.log(m[axis] / sizes[axis])) for axis in AXES))
  shown = ", ".join(f"{axis}={size}" for axis, size in best.items())
  return (f"Nearest legal: {' or '.join(near) or 'none'}; on {devices} "
          f"devices: {shown}.")


def infer(params, mesh):
  """NamedSharding of every parameter (arrays or shapes)."""
  return jax.tree.map(lambda spec: NamedSharding(mesh, spec),
                      specs(params, dict(mesh.shape)))


def infer_state(state, params, mesh):
  """Shardings of a tree that holds copies of parameters among other things.

  A leaf whose path contains a parameter's path and that has its shape (Adam's
  moments) lies as that parameter lies; counters and factored moments are
  replicated.
  """
  flat = jax.tree_util.tree_flatten_with_path(params)[0]
  shapes = {_name(path): x.shape for path, x in flat}
  named = dict(zip(shapes, jax.tree.leaves(infer(params, mesh))))

  def leaf(path, x):
    parts = _name(path).split("/")
    for start in range(len(parts)):
      for stop in range(len(parts), start, -1):
        name = "/".join(parts[start:stop])
        if shapes.get(name) == x.shape:
          return named[name]
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(leaf, state)


def explain(params, sizes, state=None):
  """Lines for a person: what lies where and how much of it on each device.

  Args:
    params, state: parameters and the optimiser's state, arrays or shapes.
  """
  mesh = AbstractMesh(tuple(sizes[axis] for axis in AXES), AXES)
  lines = []
  for (path, x), place in zip(jax.tree_util.tree_leaves_with_path(params),
                              jax.tree.leaves(infer(params, mesh))):
    lines.append(f"{_name(path)} {tuple(x.shape)} {place.spec}: "
                 f"{_bytes(x, place) / 2**20:.2f} MiB per device")
  trees = {"parameters": (params, infer(params, mesh))}
  if state is not None:
    trees["optimiser"] = state, infer_state(state, params, mesh)
  for name, (tree, places) in trees.items():
    total = sum(map(_bytes, jax.tree.leaves(tree)))
    held = sum(map(_bytes, *map(jax.tree.leaves, (tree, places))))
    lines.append(f"{name}: {total / 2**30:.3f} GiB in all, "
                 f"{held / 2**30:.3f} GiB per device")
  return lines


def _bytes(x, place=None):
  """Bytes of an array, or of the piece of it that each device holds."""
  shape = place.shard_shape(x.shape) if place else x.shape
  return math.prod(shape) * x.dtype.itemsize


@contextlib.contextmanager
def activate(mesh):
  """Makes the mesh and the activation names known to what is traced inside.

  Without jax.set_mesh flax drops every logical constraint silently.
  """
  with jax.set_mesh(mesh), nn.logical_axis_rules(ACTIVATIONS):
    yield mesh


def _name(path):
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _leaves(tree):
  return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, P))


def _axes(entry):
  """Mesh axes of one PartitionSpec entry as a tuple."""
  return (entry,) if isinstance(entry, str) else entry or ()


def _parts(axes, sizes):
  """Number of pieces that mesh axes cut a dimension into."""
  return math.prod(sizes[axis] for axis in axes)
