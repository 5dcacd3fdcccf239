"""A parameter that still lies in a file: by blocks, or onto a mesh.

What is read at once is a part of at most names.CHUNK elements or one matrix.
"""

import jax
import numpy as np

from drivemoe_jax.weights import regions


class Leaf:
  """A parameter still lying in a file: leaf[i, j:k] reads that block alone.

  Attributes:
    parts: [(region, function that reads it)], see regions.py.
  """

  def __init__(self, shape, dtype, kept):
    self.shape, self.dtype = tuple(shape), np.dtype(dtype)
    self.parts, self._kept = [], kept

  def read(self, number):
    """A part; the last one read is kept, for its neighbours within it."""
    if self._kept.get("of") != (id(self), number):
      self._kept.clear()
      block = self.parts[number][1]()
      self._kept.update({"of": (id(self), number), "block": block})
    return self._kept["block"]

  def __getitem__(self, at):
    wanted = regions.of_index(at, self.shape)
    for number, (region, _) in enumerate(self.parts):
      if region == wanted:
        return regions.drop(self.read(number), at)
    out = np.empty(regions.shape(wanted), self.dtype)
    for number, (region, _) in enumerate(self.parts):
      if common := regions.intersect(region, wanted):
        regions.copy(out[regions.within(common, wanted)],
                     self.read(number)[regions.within(common, region)])
    return regions.drop(out, at)

  def __array__(self, dtype=None, copy=None):
    return self[()].astype(dtype or self.dtype, copy=False)


def place(leaf, sharding):
  """A jax.Array of the leaf, each of whose parts is read once."""
  unique = {regions.of_index(index, leaf.shape) for index in
            sharding.addressable_devices_indices_map(leaf.shape).values()}
  if len(leaf.parts) == 1:
    whole, (whole_region, _) = leaf.read(0), leaf.parts[0]
    held = {wanted: whole[regions.within(wanted, whole_region)]
            for wanted in unique}
  else:
    held = {wanted: np.empty(regions.shape(wanted), leaf.dtype)
            for wanted in unique}
    for number, (region, _) in enumerate(leaf.parts):
      block = leaf.read(number)
      for wanted, out in held.items():
        if common := regions.intersect(region, wanted):
          regions.copy(out[regions.within(common, wanted)],
                       block[regions.within(common, region)])
  return jax.make_array_from_callback(
      leaf.shape, sharding,
      lambda index: held[regions.of_index(index, leaf.shape)])


def pad(table):
  """Fills rows that a table lacks, which no text uses, with its mean row."""
  rows = max(region[0][1] for region, _ in table.parts)
  if rows == table.shape[0]:
    return
  sums = {}

  def adding(number, read):
    def add():
      block = read()
      sums[number] = block.sum(axis=0, dtype=np.float64)
      return block
    return add

  table.parts = [(region, adding(i, read))
                 for i, (region, read) in enumerate(table.parts)]
  readers = [read for _, read in table.parts]

  def mean():
    for number, read in enumerate(readers):
      if number not in sums:
        read()
    row = sum(sums.values()) / rows
    return np.broadcast_to(row.astype(table.dtype), (
        table.shape[0] - rows, *table.shape[1:]))

  table.parts.append((((rows, table.shape[0]), *(
      (0, n) for n in table.shape[1:])), mean))
