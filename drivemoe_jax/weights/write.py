"""Writes official DriveMoE weights: safetensors, or the .pt envelope.

One tensor is in memory at a time. The file grows under a temporary name, is
read back, compared element by element, and only then gets its own name.
"""

import contextlib
import json
import os

import ml_dtypes
import numpy as np
import safetensors

from data_pipeline import errors
from drivemoe_jax.weights import blocks, names, read

DTYPES = {"float32": np.dtype(np.float32),
          "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_CODES = {"float32": "F32", "bfloat16": "BF16"}


def official(target, weights, *, dtype="float32", overwrite=False):
  """Writes one checkpoint under the official names.

  Args:
    target: NAME.pt for the official envelope (needs torch), NAME.safetensors,
      or a folder, which gets model.safetensors.
    weights: read.Weights; leaves of params may be arrays or read.Leaf.
    dtype: "float32" or "bfloat16".
    overwrite: replace what lies at the target.

  Returns:
    The path of the file.

  Raises:
    CheckpointError: the target exists, the disk is full, torch is missing, or
      what was written reads back otherwise.
  """
  path = file_of(target)
  if os.path.exists(path) and not overwrite:
    raise errors.CheckpointError(
        f"{path} exists; give --overwrite to replace it, or another name")
  if path.endswith(".pt"):
    read.import_torch(path)
  partial = path + ".partial"
  try:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if path.endswith(".pt"):
      _write_pt(partial, weights, dtype)
    else:
      _write_safetensors(partial, weights, dtype)
    os.replace(partial, path)
  except OSError as error:
    raise errors.CheckpointError(
        f"{path} could not be written ({error}); free space or name another "
        "place; nothing was left there") from error
  finally:
    _remove(partial)
  return path


def file_of(target):
  """The file that `official` writes for a target."""
  if target.endswith((".pt", ".safetensors")):
    return target
  if os.path.splitext(os.path.basename(os.path.normpath(target)))[1]:
    raise errors.ConfigError(
        f"--target {target}: write NAME.pt, NAME.safetensors or a folder")
  return os.path.join(target, "model.safetensors")


def table(weights):
  """[(key, shape, alias_of or None)] of the file, in natural key order."""
  shapes = blocks.shapes_of(weights.params)
  rows = [(key, shape, None) for key, shape in names.alphas(shapes).values()]
  for entry in names.entries(shapes):
    rows.append((entry.key, entry.shape, None))
    rows.extend((alias, entry.shape, entry.key) for alias in entry.aliases)
  return sorted(rows, key=lambda row: blocks.natural(row[0]))


def _tensors(weights, dtype):
  """Yields (key, aliases, shape, function that makes the array)."""
  leaves = {path: blocks.host(leaf)
            for path, leaf in blocks.flatten(weights.params).items()}
  shapes = blocks.shapes_of(leaves)
  cast = lambda tensor: np.ascontiguousarray(tensor).astype(
      DTYPES[dtype], copy=False)
  for entry in names.entries(shapes):
    yield (entry.key, entry.aliases, entry.shape,
           lambda entry=entry: cast(entry.gather(leaves)))
  for name, (key, shape) in names.alphas(shapes).items():
    alpha = np.asarray(weights.alphas.get(name, ()))
    if alpha.shape != shape:
      raise errors.CheckpointError(
          f"{key}: {alpha.shape[0]} focal weights, the official format holds "
          f"{shape[0]}; set as many class counts in the config")
    yield key, (), shape, lambda alpha=alpha: cast(alpha)


def _write_safetensors(path, weights, dtype, with_aliases=True):
  """Header from shapes, then tensor after tensor; then compares."""
  header, end = {"__metadata__": {"format": "pt"} | {
      name: str(value) for name, value in weights.meta.items()}}, 0
  plan = [(key, aliases if with_aliases else (), shape, make)
          for key, aliases, shape, make in _tensors(weights, dtype)]
  for key, aliases, shape, _ in plan:
    size = int(np.prod(shape)) * DTYPES[dtype].itemsize
    for name in (key, *aliases):  # the format forbids shared bytes
      header[name] = {"dtype": _CODES[dtype], "shape": list(shape),
                      "data_offsets": [end, end + size]}
      end += size
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for _, aliases, _, make in plan:
      tensor = make().reshape(-1).view(np.uint8)
      for _ in range(1 + len(aliases)):
        file.write(tensor.data)
    file.flush()
    os.fsync(file.fileno())
  get = read.open_file(path).get
  for key, aliases, _, make in plan:
    _compare(path, key, make(), map(get, (key, *aliases)))


def _write_pt(path, weights, dtype):
  """The envelope, its tensors mapped from a safetensors file beside it."""
  import torch
  raw = path + ".safetensors"
  try:
    _write_safetensors(raw, weights, dtype, with_aliases=False)
    with safetensors.safe_open(raw, "pt") as file:
      tensors = {}
      for key, aliases, _, _ in _tensors(weights, dtype):
        tensor = file.get_tensor(key)
        tensors |= {name: tensor for name in (key, *aliases)}  # stored once
      model = {key: tensors[key]
               for key in sorted(tensors, key=blocks.natural)}
      _save(torch, _envelope(weights, model), path)
  finally:
    _remove(raw)
  model = torch.load(path, weights_only=True, mmap=True)["model"]
  for key, aliases, _, make in _tensors(weights, dtype):
    _compare(path, key, make(), (
        read.from_torch(model[name]) for name in (key, *aliases)))


def _save(torch, envelope, path):
  with open(path, "wb") as file:
    try:
      torch.save(envelope, file)
    except RuntimeError as error:  # how torch reports a full disk
      raise OSError(str(error).splitlines()[0]) from error
    file.flush()
    os.fsync(file.fileno())


def _envelope(weights, model):
  """What the release's loaders look for; Drive-pi0's knows no stage."""
  envelope = {"cnt_update": 0, "cnt_batch": 0, "model": model,
              "wandb_id": None}
  if weights.alphas:
    envelope |= {"run_name": None} | {
        name: weights.meta.get(name) for name in read.NUMBERS}
  return envelope


def _compare(path, key, wanted, found):
  if not all(read.same(wanted, tensor) for tensor in found):
    raise errors.CheckpointError(
        f"{path}: {key} reads back otherwise than it was written; check the "
        "disk and write again")


def _remove(path):
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)
