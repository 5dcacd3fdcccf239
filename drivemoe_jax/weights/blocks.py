"""What the name table is made of, and trees as flat paths.

A torch tensor is leaf[index], its axes permuted and fused. Axes: N heads,
H head width, D model width, W vision width.
"""

import dataclasses
import itertools
import re

import numpy as np


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
    """big_vision's key, for img and llm: our path without the scan group.

    Its token table lacks the 64 rows that Hugging Face pads with.
    """
    if self.ours.startswith(("img/", "llm/")):
      return "params/" + self.ours.replace("{group}/", "")
    return None


@dataclasses.dataclass(frozen=True)
class Piece:
  """leaf[index], of `shape`; `transform` makes it (part of) a tensor."""

  path: str
  index: tuple
  shape: tuple
  transform: Transform


@dataclasses.dataclass(frozen=True)
class Entry:
  """One tensor of a file: pieces stacked along axis 0; aliases are copies."""

  key: str
  shape: tuple
  pieces: tuple
  aliases: tuple = ()

  def gather(self, leaves):
    """The tensor as numpy, from {path: array or anything that indexes}."""
    parts = [p.transform.to_torch(np.asarray(leaves[p.path][p.index]))
             for p in self.pieces]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

  def scatter(self, tensor, number):
    """Our block for piece `number`, out of the whole tensor."""
    if len(self.pieces) > 1:
      ends = np.cumsum([p.transform.torch_shape(p.shape)[0]
                        for p in self.pieces])
      tensor = np.split(tensor, ends[:-1])[number]
    piece = self.pieces[number]
    return piece.transform.from_torch(tensor, piece.shape)


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
  """The leaf as numpy where it lies in host memory already, else itself.

  Indexing a jax.Array compiles; on an accelerator that still beats fetching
  a whole stack for one layer of it.
  """
  devices = leaf.devices() if hasattr(leaf, "devices") else ()
  if len(devices) == 1 and next(iter(devices)).platform == "cpu":
    return np.asarray(leaf)
  return leaf


def natural(key):
  """Sort key under which layer 2 comes before layer 10."""
  return [(0, int(p), "") if p.isdigit() else (1, 0, p)
          for p in re.split(r"(\d+)", key)]
