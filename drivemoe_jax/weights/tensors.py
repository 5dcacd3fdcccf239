"""A tensor where it lies in a file, read by rows when they are asked for.

Reading goes through plain files: a memory map would count as this process's
own memory.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

from data_pipeline import errors
from drivemoe_jax.weights import regions

FLOATS = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
          "BF16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """`rows(start, stop)` reads that part of axis 0, `rows()` all of it.

  Attributes:
    place: equal for tensors that are the same bytes.
  """

  shape: tuple
  dtype: np.dtype
  rows: Callable
  place: tuple


def stored(path, offset, shape, dtype):
  """Tensor whose elements lie in order from byte `offset` on."""
  shape, dtype = tuple(shape), np.dtype(dtype)
  row = math.prod(shape[1:]) * dtype.itemsize

  def rows(start=0, stop=None):
    count = (shape[0] if stop is None else stop) - start
    with _reading(path):
      data = np.fromfile(path, np.uint8, count * row,
                         offset=offset + start * row)
      return data.view(dtype).reshape(count, *shape[1:])
  return Tensor(shape, dtype, rows, (path, offset))


def deflated(stream, shape, dtype, place):
  """Tensor in a compressed stream with `read(offset, size)`."""
  shape, row = tuple(shape), math.prod(shape[1:]) * dtype.itemsize

  def rows(start=0, stop=None):
    count = (shape[0] if stop is None else stop) - start
    with _reading(place[0]):
      data = stream.read(start * row, count * row)
      return np.frombuffer(data, dtype).reshape(count, *shape[1:])
  return Tensor(shape, dtype, rows, place)


@contextlib.contextmanager
def _reading(path):
  """Turns what a file does when its bytes are asked for into our error."""
  try:
    yield
  except MemoryError:
    raise
  except Exception as error:  # zipfile raises what it likes for forged files
    raise errors.CheckpointError(
        f"{path} cannot be read to its end ({error}); copy or download it "
        "again") from None


def same(a, b):
  """Whether two arrays agree in shape, dtype and every bit."""
  if a.shape != b.shape or a.dtype != b.dtype:
    return False
  a, b = (regions.contiguous(x).reshape(-1).view(np.uint8) for x in (a, b))
  step = 1 << 24  # so that the comparison's own memory stays small
  return all(np.array_equal(a[i:i + step], b[i:i + step])
             for i in range(0, len(a), step))
