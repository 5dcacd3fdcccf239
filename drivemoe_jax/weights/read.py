"""Reads official DriveMoE weights (safetensors or .pt) into our tree.

Strict: a missing, extra or reshaped tensor is an error that lists it, and the
two copies of what the expert streams share must be equal. `scan` leaves the
tensors in the file and reads each block when it is indexed; `official` loads.
"""

import collections
import dataclasses
import glob
import json
import math
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import safetensors

from data_pipeline import errors
from drivemoe_jax.weights import blocks, infer, names

FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
NUMBERS = ("stage", "horizon_steps", "cond_steps")
NO_TORCH = ("needs torch: install the CPU build of torch, or use .safetensors, "
            "which needs none")
TensorFile = collections.namedtuple("TensorFile", "shapes get meta")


@dataclasses.dataclass(frozen=True)
class Weights:
  """A model's weights and what an official checkpoint says beside them.

  Attributes:
    params: our tree, nested or as {path: leaf}; leaves are arrays or Leaf.
    alphas: focal weights, {"camera": [5], "skill": [7]}; {} for Drive-pi0.
    meta: ints under "stage", "horizon_steps", "cond_steps", as far as known.
  """

  params: dict
  alphas: dict
  meta: dict


class Leaf:
  """A parameter still lying in a file: leaf[index] reads that block alone."""

  def __init__(self, shape, dtype):
    self.shape, self.dtype = tuple(shape), dtype
    self.blocks = {}  # index over the leading axes -> function that reads

  def __getitem__(self, index):
    return self.blocks[index]()

  def __array__(self, dtype=None, copy=None):
    whole = np.empty(self.shape, self.dtype)
    for index, read in self.blocks.items():
      whole[index] = read()
    return whole.astype(dtype or self.dtype, copy=False)


def official(path, like, tie=None):
  """Loads an official file.

  Args:
    path: .safetensors file, folder of such files, or .pt (needs torch).
    like: tree of arrays or jax.ShapeDtypeStruct: shapes and dtypes wanted.
    tie: "action" or "proprio": whose copy to take where the streams' copies of
      a shared weight differ; None refuses such a file.

  Returns:
    Weights with params like `like`, as numpy arrays.

  Raises:
    CheckpointError: not such a file, or it does not fit `like`.
  """
  lazy = scan(path, like, tie)
  params = {p: np.asarray(leaf) for p, leaf in lazy.params.items()}
  return dataclasses.replace(lazy, params=blocks.unflatten(params))


def scan(path, like=None, tie=None):
  """Like `official`, with Leafs in params; without `like`, infers the tree."""
  file = open_file(path)
  if like is None:
    shapes, dtypes = infer.shapes(file.shapes, path), {}
  else:
    shapes = blocks.shapes_of(like)
    dtypes = {p: leaf.dtype for p, leaf in blocks.flatten(like).items()}
  entries, alphas = names.entries(shapes), names.alphas(shapes)
  wanted = {key: e.shape for e in entries for key in (e.key, *e.aliases)}
  _check_keys(path, file.shapes, wanted | dict(alphas.values()))
  params = {p: Leaf(s, dtypes.get(p, np.float32)) for p, s in shapes.items()}
  for entry in entries:
    for number, piece in enumerate(entry.pieces):
      params[piece.path].blocks[piece.index] = _block_reader(
          path, file, entry, number, params[piece.path].dtype, tie)
  return Weights(params, {name: np.asarray(file.get(key), np.float32)
                          for name, (key, _) in alphas.items()}, file.meta)


def _block_reader(path, file, entry, number, dtype, tie):
  def read():
    tensor = _tied(path, file, entry, tie)
    return entry.scatter(tensor, number).astype(dtype, copy=False)
  return read


def _tied(path, file, entry, tie):
  """The tensor; of two copies the one that `tie` names, else both compared."""
  if not entry.aliases or tie:
    keys = [k for k in (entry.key, *entry.aliases) if f".{tie}." in k]
    return file.get(keys[0] if keys else entry.key)
  tensor = file.get(entry.key)
  for alias in entry.aliases:
    if not same(tensor, file.get(alias)):
      raise errors.CheckpointError(
          f"{path}: {entry.key} and {alias} differ, yet the streams share this "
          "weight; choose one with --tie action or --tie proprio")
  return tensor


def same(a, b):
  """Whether two arrays agree in shape, dtype and every bit."""
  if a.shape != b.shape or a.dtype != b.dtype:
    return False
  a, b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
  step = 1 << 24  # so that the comparison's own memory stays small
  return all(np.array_equal(a[i:i + step], b[i:i + step])
             for i in range(0, len(a), step))


def _check_keys(path, found, wanted):
  problems = {
      "missing": sorted(wanted.keys() - found.keys(), key=blocks.natural),
      "extra": sorted(found.keys() - wanted.keys(), key=blocks.natural),
      "reshaped": [
          f"{key} {tuple(found[key])} in the file, {wanted[key]} in the model"
          for key in sorted(wanted.keys() & found.keys(), key=blocks.natural)
          if tuple(found[key]) != tuple(wanted[key])],
  }
  told = []
  for kind, keys in problems.items():
    if keys:
      more = f" and {len(keys) - 20} more" if len(keys) > 20 else ""
      told.append(f"{len(keys)} {kind}: {', '.join(keys[:20])}{more}")
  if told:
    raise errors.CheckpointError(
        f"{path} does not fit the model; {'; '.join(told)}; name a file of "
        "this model, or configure the model as the file's")


def open_file(path):
  """TensorFile: shapes, meta and a function that reads a tensor by its key.

  Raises:
    CheckpointError: nothing there, or neither safetensors nor a whole .pt.
  """
  if not os.path.exists(path):
    raise errors.CheckpointError(f"no weights at {path}; check the path")
  if path.endswith(".pt"):
    return _open_pt(path)
  if not os.path.isdir(path):
    return _open_safetensors([path])
  shards = sorted(glob.glob(os.path.join(path, "*.safetensors")))
  if not shards:
    raise errors.CheckpointError(
        f"{path} is neither a training folder (config.json, checkpoints/) nor "
        "does it hold *.safetensors; name a weight file")
  return _open_safetensors(shards)


def _open_safetensors(paths):
  shapes, home, meta = {}, {}, {}
  for path in paths:
    try:
      # The library checks the header, every tensor's place and the file's end.
      with safetensors.safe_open(path, "np"):
        header, start = _header(path)
    except (safetensors.SafetensorError, OSError) as error:
      raise errors.CheckpointError(
          f"{path} is no whole safetensors file ({error}); copy or download "
          "it again") from error
    meta |= header.pop("__metadata__", {})
    for key, tensor in header.items():
      name = _plain(key)
      if name in home:
        raise errors.CheckpointError(
            f"{path}: a second tensor {name}; remove one of the files")
      if tensor["dtype"] not in FLOATS:
        raise errors.CheckpointError(
            f"{path}: {key} is {tensor['dtype']}; weights must be one of "
            f"{', '.join(FLOATS)}")
      shapes[name] = tuple(tensor["shape"])
      home[name] = (path, FLOATS[tensor["dtype"]],
                    start + tensor["data_offsets"][0])

  def get(name):
    # Not through the library, whose memory map would count as ours.
    path, dtype, offset = home[name]
    size = math.prod(shapes[name]) * np.dtype(dtype).itemsize
    data = np.fromfile(path, np.uint8, size, offset=offset)
    return data.view(dtype).reshape(shapes[name])
  return TensorFile(
      shapes, get, {n: int(meta[n]) for n in NUMBERS if n in meta})


def _header(path):
  """(parsed header, where the tensors begin) of a checked safetensors file."""
  with open(path, "rb") as file:
    size = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(size)), 8 + size


def _open_pt(path):
  torch = import_torch(path)
  try:
    # weights_only: a pickle that would run code is refused, never executed.
    whole = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
  except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError,
          zipfile.BadZipFile) as error:
    raise errors.CheckpointError(
        f"{path} is no whole PyTorch checkpoint of plain tensors "
        f"({str(error).splitlines()[0]}); copy or export it again") from error
  if not isinstance(whole, dict) or "model" not in whole:
    raise errors.CheckpointError(
        f"{path} has no 'model' entry, so it is no official checkpoint; write "
        "it as {'model': state_dict, ...}")
  tensors = {_plain(key): value for key, value in whole["model"].items()}
  for key, tensor in tensors.items():
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
      raise errors.CheckpointError(
          f"{path}: {key} is {tensor.dtype}; weights must be floating point")
  return TensorFile(
      {key: tuple(tensor.shape) for key, tensor in tensors.items()},
      lambda key: from_torch(tensors[key]),
      {n: whole[n] for n in NUMBERS if whole.get(n) is not None})


def from_torch(tensor):
  """numpy view of a torch tensor, bfloat16 included."""
  if str(tensor.dtype) == "torch.bfloat16":
    import torch
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
  return tensor.numpy()


def import_torch(path):
  """torch, or an error that says how to do without it."""
  try:
    import torch
  except ImportError:
    raise errors.CheckpointError(f"{path} {NO_TORCH}") from None
  return torch


def _plain(key):
  """Drops what torch.compile puts before a module's names."""
  return key.replace("_orig_mod.", "")
