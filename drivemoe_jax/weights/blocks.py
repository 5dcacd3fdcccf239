"""What the name table is made of, and trees as flat paths.

A torch tensor is leaf[index], its axes permuted and fused. Axes: N heads,
H head width, D model width, W vision width.
"""

import dataclasses
import itertools
import re

import numpy as np

from drivemoe_jax.weights import regions


@dataclasses.dataclass(frozen=True)
class Transform:
  """Torch axes as fusions of ours; None copies.

  ((0, 2), (1,)) is [N,D,H] -> [N*H,D]. Being data, it has one inverse.
  """

  axes: tuple | None

  def torch_shape(self, shape):
    if self.axes is None:
      return tuple(shape)
    return tuple(int(np.prod([shape[a] for a in f])) for f in self.axes)

  def our_shape(self, shape):
    """Inverse of torch_shape; of fused axes all but the last become 1."""
    if self.axes is None:
      return tuple(shape)
    ours = {}
    for size, fused in zip(shape, self.axes, strict=True):
      ours |= {a: 1 for a in fused[:-1]} | {fused[-1]: size}
    return tuple(ours[a] for a in sorted(ours))

  def to_torch(self, block):
    if self.axes is None:
      return block
    order = list(itertools.chain(*self.axes))
    return block.transpose(order).reshape(self.torch_shape(block.shape))

  def from_torch(self, tensor, shape):
    if self.axes is None:
      return tensor.reshape(shape)
    order = list(itertools.chain(*self.axes))
    return tensor.reshape([shape[a] for a in order]).transpose(
        np.argsort(order))


COPY = Transform(None)
TRANSPOSE = Transform(((1,), (0,)))          # Dense [in,out] -> [out,in]
HEADS_OUT = Transform(((0, 2), (1,)))        # [N,D,H] -> [N*H,D]
HEADS_IN = Transform(((2,), (0, 1)))         # [N,H,D] -> [D,N*H]
DENSE_HEADS = Transform(((1, 2), (0,)))      # [D,N,H] -> [N*H,D]
BIAS_HEADS = Transform(((0, 1),))            # [N,H] -> [N*H]
CONV = Transform(((3,), (2,), (0,), (1,)))   # HWIO -> OIHW
POSITIONS = Transform(((0, 1), (2,)))        # [1,N,W] -> [N,W]


@dataclasses.dataclass(frozen=True)
class Name:
  """A row of names.NAMES.

  Attributes:
    ours: path; {group} stands for dense, moe or last.
    official: key in the official checkpoint, with {layer} and {expert}; None
      for a weight that it does not hold.
    transform: from our block to the torch tensor.
    axes: our leading axes, which torch unstacks: "layer", "expert", a half.
    hf: key in PaliGemma's (legacy) Hugging Face files, None if not there.
    alias: second official key of a weight that both expert streams share.
    packed: (part, parts) of a torch tensor that stacks several leaves.
  """

  ours: str
  official: str | None
  transform: Transform = COPY
  axes: tuple = ()
  hf: str | None = None
  alias: str | None = None
  packed: tuple = (0, 1)

  @property
  def bv(self):
    """big_vision's key, for img and llm: our path without the scan group."""
    if self.ours.startswith(("img/", "llm/")):
      return "params/" + self.ours.replace("{group}/", "")
    return None

  @property
  def pi0(self):
    """openpi's key: PaliGemma, and one dense expert that serves both streams.

    Its projections of states, actions and time have other widths, and its time
    runs backwards: they are no start for ours.
    """
    if self.bv:
      return self.bv.replace("params/", "PaliGemma/")
    found = re.fullmatch(r"expert/\w+/(?:layers/\{group\}/)?(.*)", self.ours)
    if not found or not re.fullmatch(_PI0, found[1]):
      return None
    place = "" if found[1].startswith("final_norm") else "layers/"
    return f"PaliGemma/llm/{place}" + re.sub(_PI0, r"\1_1/\2", found[1])


# Leaves of an expert that openpi has too; the module gets the expert's number.
_PI0 = r"(attn/\w+_einsum|mlp|\w+_norm)/(w|gating_einsum|linear|scale)"


@dataclasses.dataclass(frozen=True)
class Piece:
  """Part of one of our leaves, and of one tensor of a file.

  Attributes:
    path, index: leaf[index] is a block over the leading axes, cut to the rows
      from `start` on.
    shape: of this part.
    transform: makes it rows of the tensor, from `row` on.
  """

  path: str
  index: tuple
  start: int
  shape: tuple
  transform: Transform
  row: int

  @property
  def at(self):
    """What to index the leaf with."""
    return (*self.index, slice(self.start, self.start + self.shape[0]))

  @property
  def rows(self):
    """(first, last + 1) row of the tensor."""
    return self.row, self.row + self.transform.torch_shape(self.shape)[0]


@dataclasses.dataclass(frozen=True)
class Entry:
  """One tensor of a file: pieces that are its rows; aliases are copies."""

  key: str
  shape: tuple
  pieces: tuple
  aliases: tuple = ()

  def parts(self, leaves):
    """Yields the tensor's rows piece by piece, from {path: array or Leaf}."""
    for p in self.pieces:
      yield p.transform.to_torch(np.asarray(leaves[p.path][p.at]))

  def gather(self, leaves, start=0, stop=None):
    """Rows of the tensor as numpy."""
    stop, found = self.shape[0] if stop is None else stop, []
    for p in self.pieces:
      first, end = p.rows
      if first < stop and start < end:
        rows = p.transform.to_torch(np.asarray(leaves[p.path][p.at]))
        found.append(rows[max(start - first, 0):stop - first])
    return found[0] if len(found) == 1 else np.concatenate(found)


def flatten(tree, prefix=""):
  """{"a": {"b": leaf}} -> {"a/b": leaf}; a flat dict stays as it is."""
  flat = {}
  for key, value in tree.items():
    if hasattr(value, "items"):
      flat |= flatten(value, f"{prefix}{key}/")
    else:
      flat[prefix + key] = value
  return flat


def unflatten(flat):
  """Inverse of flatten."""
  tree = {}
  for path, value in flat.items():
    *parents, leaf = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def shapes_of(tree):
  """{path: shape} of a tree of arrays or of abstract arrays."""
  return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def host(leaf):
  """The leaf as numpy, or as what indexes like it without copying it whole.

  Indexing a jax.Array compiles; on an accelerator that still beats fetching
  a whole stack for one layer of it.
  """
  devices = leaf.devices() if hasattr(leaf, "devices") else ()
  if not devices or any(d.platform != "cpu" for d in devices):
    return leaf
  return np.asarray(leaf) if len(devices) == 1 else _Shards(leaf)


class _Shards:
  """A jax.Array that lies split in host memory."""

  def __init__(self, array):
    self.shape, self.dtype = array.shape, array.dtype
    self._parts = {regions.of_index(shard.index, array.shape): shard.data
                   for shard in array.addressable_shards}

  def __getitem__(self, at):
    wanted = regions.of_index(at, self.shape)
    out = np.empty(regions.shape(wanted), self.dtype)
    for region, part in self._parts.items():
      if common := regions.intersect(region, wanted):
        out[regions.within(common, wanted)] = np.asarray(part)[
            regions.within(common, region)]
    return regions.drop(out, at)


def natural(key):
  """Sort key under which layer 2 comes before layer 10."""
  return [(0, int(p), "") if p.isdigit() else (1, 0, p)
          for p in re.split(r"(\d+)", key)]
