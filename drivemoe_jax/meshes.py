"""The mesh ("data", "fsdp", "expert"): its sizes, presets, and its devices.

`data` holds replicas, and several slices of a pod are joined along it alone:
what crosses their slow network is one sum of gradients. Within a slice devices
are laid out along its torus where the sizes allow.
"""

import dataclasses
import logging
import math
import re

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType

from data_pipeline import errors

AXES = ("data", "fsdp", "expert")
DEFAULT = {"data": 1, "fsdp": -1, "expert": 1}
PER_DEVICE_BATCH = 8  # stage 1 in the memory of every chip below


@dataclasses.dataclass(frozen=True)
class Preset:
  """Sizes for one slice, and the most samples that a device takes at once."""

  sizes: dict
  per_device_batch: int

  @property
  def devices(self):
    return math.prod(self.sizes.values())


def _preset(data, fsdp, expert, per_device_batch):
  return Preset(dict(zip(AXES, (data, fsdp, expert))), per_device_batch)


# Cloud names count chips, except v5p's, which count cores: so its topology.
# Every slice is kept to 64 pieces of a weight, the most that the vocabulary
# (257216 = 64 x 4019) divides into.
PRESETS = {
    "v5e-16": _preset(1, 16, 1, 8),
    "v5e-256": _preset(16, 16, 1, 8),
    "v6e-8": _preset(1, 8, 1, 16),
    "v6e-16": _preset(1, 16, 1, 16),
    "v6e-256": _preset(16, 16, 1, 16),
    "v5p:2x2x2": _preset(1, 8, 1, 16),
    "v5p:4x4x4": _preset(1, 16, 4, 16),
}


def preset(name):
  """Preset of a slice, or of several: "2xv5e-256" has twice the replicas.

  Raises:
    ConfigError: no such slice.
  """
  count, one = re.fullmatch(r"(?:([1-9]\d*)x)?(.*)", name).groups()
  if one not in PRESETS:
    raise errors.ConfigError(
        f"mesh.preset {name!r} is not known; choose one of "
        f"{', '.join(PRESETS)}, several slices as 2xv5e-256, or state "
        "mesh.data, mesh.fsdp and mesh.expert")
  found = PRESETS[one]
  data = found.sizes["data"] * int(count or 1)
  return Preset(found.sizes | {"data": data}, found.per_device_batch)


def _stated(keys):
  return {axis: keys[axis] for axis in AXES if keys[axis] is not None}


def per_device_batch(keys, stated):
  """Most samples that a device takes at once: stated, or the preset's."""
  if stated is not None:
    return stated
  name = keys.get("preset")
  return preset(name).per_device_batch if name else PER_DEVICE_BATCH


def named_devices(keys):
  """Devices that a preset or fully stated sizes ask for; 0 if they do not."""
  if keys.get("preset"):
    return preset(keys["preset"]).devices
  return max(0, math.prod((DEFAULT | _stated(keys)).values()))


def choose(keys, devices):
  """Sizes of the mesh axes: what is stated wins over the preset.

  Args:
    keys: {"data", "fsdp", "expert"}: size, -1 for "all that is left", None
      where it is not stated; and maybe "preset". devices: how many there are.

  Raises:
    MeshError: sizes that do not use the preset's devices, or too few devices.
    ConfigError: an unknown preset.
  """
  name, stated = keys.get("preset"), _stated(keys)
  if not name:
    return resolve(**(DEFAULT | stated), devices=devices)
  whole = preset(name).devices
  sizes = resolve(**(preset(name).sizes | stated), devices=whole)
  used = math.prod(sizes.values())
  if used != whole:
    raise errors.MeshError(
        f"mesh.preset {name} is {whole} devices, but data*fsdp*expert = "
        f"{'*'.join(map(str, sizes.values()))} = {used}: sizes that are stated "
        "win over the preset's; set another of them to -1")
  if whole > devices:
    raise errors.MeshError(
        f"mesh.preset {name} is {whole} devices, but {devices} are here; "
        "choose the preset of this slice, or state the sizes instead")
  return sizes


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


def microbatches(global_batch, per_device_batch, sizes):
  """How many microbatches an update takes; checks that all sizes divide.

  Args:
    global_batch: samples per update. per_device_batch: the most that a device
      takes at once. sizes: {"data", "fsdp", "expert"}.

  Raises:
    MeshError: naming the numbers and the nearest legal batch sizes.
  """
  if per_device_batch < 1:
    raise errors.MeshError(f"per_device_batch {per_device_batch}: must be 1 or "
                           "more, or null for the preset's")
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


def make_mesh(sizes, devices=None):
  """Mesh over the first devices. Axes are Auto: constraints are requests.

  Raises:
    MeshError: slices that `data` cannot join.
  """
  devices = jax.devices() if devices is None else devices
  used = devices[:math.prod(sizes[axis] for axis in AXES)]
  grid, why = arrange(sizes, used)
  if why:
    logging.getLogger(__name__).warning(
        "mesh %s: devices in plain order instead of along the torus: %s",
        sizes, why)
  return jax.sharding.Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def arrange(sizes, devices):
  """Devices in the shape of the mesh, one slice after the other along `data`.

  Returns:
    array of devices, and why not along the torus ("" where it is).

  Raises:
    MeshError: TPU slices of other sizes than `data` can join.
  """
  shape = tuple(sizes[axis] for axis in AXES)
  slices = {}
  for device in devices:
    slices.setdefault(getattr(device, "slice_index", 0), []).append(device)
  parts = [slices[index] for index in sorted(slices)]
  inner = (shape[0] // len(parts), *shape[1:])
  if any(len(part) != math.prod(inner) for part in parts):
    if devices[0].platform == "tpu":
      lengths = ", ".join(str(len(part)) for part in parts)
      raise errors.MeshError(
          f"{len(parts)} slices of {lengths} devices cannot be joined along "
          f"data = {shape[0]}: it must be a multiple of {len(parts)}, with "
          f"data*fsdp*expert / {len(parts)} devices in each; lower fsdp or "
          "expert and raise data")
    parts, inner = [sum(parts, [])], shape  # hosts of one fast network
  grids, reasons = zip(*(_within(inner, part) for part in parts))
  return np.concatenate(grids, axis=0), "; ".join(sorted(set(reasons) - {""}))


def _within(shape, devices):
  """One slice's devices along its torus, or in plain order and why."""
  try:
    return mesh_utils.create_device_mesh(
        shape, devices, allow_split_physical_axes=True), ""
  except (AssertionError, NotImplementedError, ValueError) as error:
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return np.array(devices, object).reshape(shape), why
