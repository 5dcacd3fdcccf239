"""Streams tensors into safetensors and .npz files, piece by piece."""

import json
import math
import zipfile

import ml_dtypes
import numpy as np

from drivemoe_jax.weights import zips

DTYPES = {"float32": np.dtype(np.float32),
          "bfloat16": np.dtype(ml_dtypes.bfloat16)}
CODES = {"float32": "F32", "bfloat16": "BF16"}


class Item:
  """A tensor to write, under one key or several."""

  def __init__(self, keys, shape, parts, entry=None):
    self.keys, self.shape, self.parts, self.entry = keys, shape, parts, entry

  def data(self):
    """Yields the tensor's bytes, a part at a time."""
    for part in self.parts():
      yield part.reshape(-1).view(np.uint8).data

  def size(self, dtype):
    return math.prod(self.shape) * DTYPES[dtype].itemsize


def safetensors(path, flat, weights, dtype):
  """Header from shapes, then tensor after tensor."""
  meta = {"format": "pt"} | {k: str(v) for k, v in weights.meta.items()}
  if weights.heads:
    meta["heads"] = json.dumps(weights.heads)
  header, end = {"__metadata__": meta}, 0
  for key, item in flat:  # the format forbids shared bytes
    header[key] = {"dtype": CODES[dtype], "shape": list(item.shape),
                   "data_offsets": [end, end + item.size(dtype)]}
    end += item.size(dtype)
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for _, item in flat:
      file.writelines(item.data())


def npz(path, items, dtype):
  # numpy has no bfloat16: big_vision reads two raw bytes as such.
  descr = {"float32": "<f4", "bfloat16": "|V2"}[dtype]
  with zipfile.ZipFile(path, "w") as archive:
    for item in items:
      with zips.create(archive, item.keys[0] + ".npy") as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": descr, "fortran_order": False, "shape": item.shape})
        file.writelines(item.data())
