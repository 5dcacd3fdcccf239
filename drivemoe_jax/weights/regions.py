"""Blocks of an array as ((start, stop), ...) of every axis, and how they meet.

Blocks that are cut by layers, rows and devices all are such boxes.
"""


def of_index(at, shape):
  """Region of leaf[at]: ints, then slices without step; the rest is whole."""
  at = at if isinstance(at, tuple) else (at,)
  region = [(i, i + 1) if isinstance(i, int) else i.indices(n)[:2]
            for i, n in zip(at, shape)]
  return (*region, *((0, n) for n in shape[len(at):]))


of_slices = of_index  # as jax gives a device's part of an array


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
