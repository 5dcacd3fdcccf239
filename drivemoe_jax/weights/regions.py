"""Blocks of an array as ((start, stop), ...) of every axis, and how they meet.

Blocks that are cut by layers, rows and devices all are such boxes.
"""

import numpy as np

TILE = 256  # rows and columns that a transposed copy keeps in the cache


def of_index(at, shape):
  """Region of leaf[at]: ints, then slices without step; the rest is whole."""
  at = at if isinstance(at, tuple) else (at,)
  region = [(i, i + 1) if isinstance(i, int) else i.indices(n)[:2]
            for i, n in zip(at, shape)]
  return (*region, *((0, n) for n in shape[len(at):]))


def shape(region):
  """Sizes of its axes."""
  return tuple(stop - start for start, stop in region)


def intersect(a, b):
  """The region that both hold, None where they do not meet."""
  common = tuple((max(x, u), min(y, v)) for (x, y), (u, v) in zip(a, b))
  return common if all(x < y for x, y in common) else None


def within(inner, outer):
  """Slices that cut `inner` out of an array that is `outer`."""
  return tuple(slice(x - u, y - u) for (x, y), (u, _) in zip(inner, outer))


def drop(block, at):
  """Leaves out the axes that were indexed by a number."""
  at = at if isinstance(at, tuple) else (at,)
  return block[tuple(0 if isinstance(i, int) else slice(None) for i in at)]


def copy(out, block):
  """out[:] = block; tile by tile where block is transposed, 3 times as fast."""
  if (block.ndim < 2 or block.strides[-1] == block.itemsize
      or block.size < TILE * TILE):
    out[...] = block
  elif block.ndim > 2:
    for a, b in zip(out, block):
      copy(a, b)
  else:
    for i in range(0, block.shape[0], TILE):
      for j in range(0, block.shape[1], TILE):
        out[i:i + TILE, j:j + TILE] = block[i:i + TILE, j:j + TILE]


def contiguous(block, dtype=None):
  """The block with its elements in order, as `dtype`."""
  dtype = block.dtype if dtype is None else dtype
  if block.flags.c_contiguous:
    return block.astype(dtype, copy=False)
  out = np.empty(block.shape, dtype)
  copy(out, block)
  return out
