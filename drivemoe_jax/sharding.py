"""Where everything lives on the mesh ("data", "fsdp", "expert").

The batch is split over all three axes. Large weights are split over fsdp and
expert, the stacked experts over expert; `data` holds replicas. Models name
their axes, only this file maps names to the mesh. Sizes are checked here,
before anything is compiled.
"""

import contextlib
import math
import re

import flax.linen as nn
import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import errors

AXES = ("data", "fsdp", "expert")
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
    (r"img/embedding/kernel", P(None, None, None, W)),
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


def resolve(data, fsdp, expert, devices):
  """Sizes of the mesh axes; one of them may be -1, "all that is left".

  Raises:
    MeshError: the product does not fit the number of devices.
  """
  sizes = dict(zip(AXES, (data, fsdp, expert)))
  free = [axis for axis, size in sizes.items() if size == -1]
  known = math.prod(size for size in sizes.values() if size != -1)
  shown = "*".join(map(str, sizes.values()))
  if len(free) > 1 or any(s < 1 and s != -1 for s in sizes.values()):
    raise errors.MeshError(
        f"mesh data*fsdp*expert = {shown}: sizes must be at least 1, and at "
        "most one may be -1 (all devices that are left)")
  if (free and devices % known) or known > devices:
    raise errors.MeshError(
        f"mesh data*fsdp*expert = {shown} does not fit {devices} devices; "
        f"choose sizes whose product is {devices}, or set one to -1")
  for axis in free:
    sizes[axis] = devices // known
  return sizes


def make_mesh(sizes, devices=None):
  """Mesh over the first devices. Axes are Auto: constraints are requests."""
  devices = jax.devices() if devices is None else devices
  shape = tuple(sizes[axis] for axis in AXES)
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES),
                       devices=devices[:math.prod(shape)])


def microbatches(global_batch, per_device_batch, sizes):
  """How many microbatches an update takes; checks that all sizes divide.

  Args:
    global_batch: samples per update. per_device_batch: the most that a device
      takes at once. sizes: {"data", "fsdp", "expert"}.

  Raises:
    MeshError: naming the numbers and the nearest legal batch sizes.
  """
  shards = math.prod(sizes[axis] for axis in AXES)
  unit, what = shards, f"data*fsdp*expert = {shards}"
  if global_batch > shards * per_device_batch:
    unit = shards * per_device_batch
    what = (f"data*fsdp*expert = {shards} times per_device_batch = "
            f"{per_device_batch}")
  if global_batch % unit:
    low = global_batch // unit * unit
    near = [str(n) for n in (low, low + unit) if n]
    raise errors.MeshError(
        f"global_batch {global_batch} is not divisible by {what}. Nearest "
        f"legal: {' or '.join(near)}.")
  return max(1, global_batch // (shards * per_device_batch))


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
    MeshError: an axis of a parameter is not divisible by its mesh axes.
  """

  def leaf(path, x):
    name = _name(path)
    spec = spec_for(name)
    for size, axes in zip(x.shape, spec):
      parts = _parts(axes, sizes)
      if size % parts:
        axes = axes if isinstance(axes, str) else "*".join(axes)
        raise errors.MeshError(
            f"parameter {name} {tuple(x.shape)}: {size} is not divisible by "
            f"{axes} = {parts}; choose a smaller {axes} and use data instead")
    return spec

  return jax.tree_util.tree_map_with_path(leaf, params)


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


def explain(params, sizes):
  """Lines for a person: what lies where and how much of it on each device."""
  flat = jax.tree_util.tree_flatten_with_path(params)[0]
  tree = jax.tree.leaves(specs(params, sizes),
                         is_leaf=lambda x: isinstance(x, P))
  lines, total, held = [], 0, 0
  for (path, x), spec in zip(flat, tree):
    size = math.prod(x.shape) * x.dtype.itemsize
    parts = math.prod(_parts(axes, sizes) for axes in spec)
    total, held = total + size, held + size // parts
    lines.append(f"{_name(path)} {tuple(x.shape)} {spec}: "
                 f"{size // parts / 2**20:.2f} MiB per device")
  lines.append(f"parameters: {total / 2**30:.3f} GiB in all, "
               f"{held / 2**30:.3f} GiB per device")
  return lines


@contextlib.contextmanager
def activate(mesh):
  """Makes the mesh and the activation names known to what is traced inside.

  Without jax.set_mesh flax drops every logical constraint silently.
  """
  with jax.set_mesh(mesh), nn.logical_axis_rules(ACTIVATIONS):
    yield mesh


def _name(path):
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _parts(axes, sizes):
  """Number of pieces that one PartitionSpec entry cuts a dimension into."""
  axes = (axes,) if isinstance(axes, str) else axes or ()
  return math.prod(sizes[axis] for axis in axes)
