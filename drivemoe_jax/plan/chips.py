"""TPU chips and slices: what one chip has, which slices there are.

Peaks and bandwidths are the published ones; clocks follow from the peaks (the
matrix units' width is known). A v4 chip shows up as two devices, one for each
core, when it is compiled for without a machine; all figures here are per chip.
"""

import dataclasses

from data_pipeline import errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One TPU chip.

  Attributes:
    hbm_bytes: memory that programs get: libtpu keeps a little for itself and
      refuses programs that need more than this.
    peak_flops: bfloat16 operations per second.
    bandwidth: bytes of HBM per second.
    clock_ghz: of the cores. devices: that jax shows for one chip.
    slices: names of its slices, without the family.
  """

  hbm_bytes: int
  peak_flops: float
  bandwidth: float
  clock_ghz: float
  devices: int
  slices: tuple[str, ...]


SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8",
         "8x8x8", "8x8x16", "8x16x16", "16x16x16")
CHIPS = {
    "v4": Chip(int(30.5 * GIB), 275e12, 1228e9, 1.05, 2, CUBES),
    "v5e": Chip(int(15.75 * GIB), 197e12, 819e9, 1.503, 1, SQUARES),
    "v5p": Chip(int(95.74 * GIB), 459e12, 2765e9, 1.75, 1,
                ("1x1x1",) + CUBES + ("16x16x24",)),
    "v6e": Chip(int(31.25 * GIB), 918e12, 1638e9, 1.75, 1, SQUARES),
}


def parse(topology):
  """"v5e:4x4" -> (Chip, chips in the slice).

  Raises:
    ConfigError: no such slice.
  """
  family, _, shape = topology.partition(":")
  if family not in CHIPS or shape not in CHIPS[family].slices:
    known = "; ".join(f"{name}: {', '.join(chip.slices)}"
                      for name, chip in CHIPS.items())
    raise errors.ConfigError(
        f"unknown topology {topology!r}; write FAMILY:SHAPE, one of: {known}")
  chips = 1
  for side in shape.split("x"):
    chips *= int(side)
  return CHIPS[family], chips
