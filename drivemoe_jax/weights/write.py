"""Writes weights: official .pt or safetensors, Hugging Face's, big_vision's.

One piece of a tensor is in memory at a time. A target grows under a temporary
name, is read back, compared element by element, and only then gets its own.
"""

import contextlib
import json
import os
import shutil

import jax
import numpy as np

from data_pipeline import errors
from drivemoe_jax.weights import (
  blocks,
  files,
  formats,
  hf_config,
  names,
  read,
  regions,
  tensors,
  torch_file,
)

MAX_SHARD = 4_000_000_000
HOLDERS = {".pt": ("official",), ".npz": ("bv",),
           ".safetensors": ("official", "hf", "bv"),
           "": ("official", "hf", "bv")}


def write(target, weights, *, column="official", dtype="float32",
          max_shard=MAX_SHARD, overwrite=False, check=None):
  """Writes one checkpoint.

  Args:
    target: NAME.pt, NAME.npz, NAME.safetensors, or a folder, which gets
      safetensors of at most `max_shard` bytes and their index.
    weights: read.Weights; leaves may be arrays or read.Leaf.
    column: whose names: "official", "hf" or "bv"; the latter two are
      PaliGemma alone. .pt is official, .npz is bv.
    dtype: "float32" or "bfloat16".
    overwrite: replace what lies at the target.
    check: called with the path of what was written and read back, before it
      gets its name; whatever it raises leaves nothing behind.

  Returns:
    The path of the file or folder.

  Raises:
    ConfigError: a suffix that cannot hold these names.
    CheckpointError: the target exists, the disk is full, the weights lack
      something, or what was written reads back otherwise.
  """
  kind = check_target(target, column)
  items = _items(weights, column, dtype)
  if _taken(target) and not overwrite:
    raise errors.CheckpointError(
        f"{target} exists; give --overwrite to replace it, or another name")
  partial = target.rstrip("/") + ".partial"
  try:
    os.makedirs(os.path.dirname(partial) or ".", exist_ok=True)
    _require_space(partial, items, dtype, kind)
    _remove(partial)
    if kind == ".pt":
      torch_file.write(partial, _envelope(weights), [
          (i.keys, i.shape, i.data) for i in items], formats.CODES[dtype])
    elif kind == ".npz":
      formats.npz(partial, items, dtype)
    elif kind == ".safetensors":
      formats.safetensors(partial, _flat(items), weights, dtype)
    else:
      _write_folder(partial, items, weights, column, dtype, max_shard)
    _sync(partial)
    try:
      _compare(partial, items, weights, column, dtype)
    except errors.CheckpointError as error:  # unreadable is different too
      raise errors.CheckpointError(
          f"{target} reads back otherwise than it was written ({error.args[0]})"
          "; check the disk and write again") from error
    if check:
      check(partial)
    _give_name(partial, target)
  except OSError as error:
    raise errors.CheckpointError(
        f"{target} could not be written ({error}); free space or name another "
        "place; nothing was left there") from error
  finally:
    _remove(partial)
  return target


def check_target(target, column):
  """The suffix of a target, "" for a folder; ConfigError if it cannot be."""
  if os.path.isdir(os.path.join(target, "checkpoints")):
    raise errors.ConfigError(
        f"--target {target} is the folder of a run, whose config.json an "
        "export would replace; name another")
  name = os.path.basename(os.path.normpath(target))
  kind = os.path.splitext(name)[1]
  if os.path.isdir(target) or target.endswith(os.sep) or (
      kind[1:].isdecimal()):  # such as exports/v1.2
    kind = ""
  if kind not in HOLDERS:
    raise errors.ConfigError(
        f"--target {target}: write NAME.pt, NAME.npz, NAME.safetensors or a "
        "folder")
  if column not in HOLDERS[kind]:
    raise errors.ConfigError(
        f"--target {target} holds --names {' or '.join(HOLDERS[kind])}, not "
        f"{column}; change one of the two")
  return kind


def table(weights, column="official"):
  """[(key, shape, alias_of or None)] of the target, in natural key order."""
  rows = []
  for item in _items(weights, column, "float32"):
    rows.append((item.keys[0], item.shape, None))
    rows += [(alias, item.shape, item.keys[0]) for alias in item.keys[1:]]
  return sorted(rows, key=lambda row: blocks.natural(row[0]))


def _leaves(weights):
  flat = blocks.flatten(weights.params) | blocks.flatten(weights.carried)
  return {path: blocks.host(leaf) for path, leaf in flat.items()}


def _items(weights, column, dtype):
  """What to write, in the order of our leaves."""
  leaves = _leaves(weights)
  shapes = blocks.shapes_of(leaves)
  if "img/embedding/patches/kernel" in shapes:
    raise errors.CheckpointError(
        "the source sees through convolutions (model.vision_stem=conv), which "
        "no other format holds; train one with model.vision_stem=patch")
  if column != "official":
    _check_paligemma(weights, shapes, column)
  elif "io/action_in/linear_1/bias" not in shapes:
    raise errors.CheckpointError(
        "the source is PaliGemma alone, an official file is a whole driving "
        "model; write --names hf or bv, or train from it first")
  cast = lambda part: regions.contiguous(part, formats.DTYPES[dtype])
  items = [formats.Item((e.key, *e.aliases), e.shape,
                 lambda e=e: map(cast, e.parts(leaves)), e)
           for e in names.entries(shapes, column)]
  for name, (key, shape) in (
      names.alphas(shapes) if column == "official" else {}).items():
    alpha = np.asarray(weights.alphas.get(name, ()))
    if alpha.shape != shape:
      raise errors.CheckpointError(
          f"{key}: {alpha.shape[0]} focal weights, the official format holds "
          f"{shape[0]}; set as many class counts in the config")
    items.append(formats.Item((key,), shape, lambda alpha=alpha: [cast(alpha)]))
  return items


def _check_paligemma(weights, shapes, column):
  if read.CARRIED not in shapes:
    raise errors.CheckpointError(
        f"the source lacks {read.CARRIED}, which PaliGemma's own formats hold "
        "and official files drop; name a PaliGemma file with --final-norm")
  if column == "bv" and not weights.heads:
    raise errors.CheckpointError(
        "the source does not tell its numbers of attention heads, which "
        "big_vision's layout needs; state them with --heads VISION,TEXT,KV")
  heads = weights.heads or {}
  if heads and heads["kv"] == heads["text"] > 1:
    raise errors.CheckpointError(
        f"{heads['kv']} key heads for {heads['text']} query heads: big_vision "
        "and Hugging Face lay such a Gemma out otherwise; export it as "
        "--names official")


def _flat(items):
  return [(key, item) for item in items for key in item.keys]


def _write_folder(path, items, weights, column, dtype, max_shard):
  shards, size = [[]], 0
  for key, item in _flat(items):
    if shards[-1] and size + item.size(dtype) > max_shard:
      shards.append([])
      size = 0
    shards[-1].append((key, item))
    size += item.size(dtype)
  os.makedirs(path)
  where = {}
  for number, flat in enumerate(shards, 1):
    name = (f"model-{number:05}-of-{len(shards):05}.safetensors"
            if len(shards) > 1 else "model.safetensors")
    where |= {key: name for key, _ in flat}
    formats.safetensors(os.path.join(path, name), flat, weights, dtype)
  if len(shards) > 1:
    total = sum(item.size(dtype) for _, item in _flat(items))
    _write_json(os.path.join(path, files.INDEX), {
        "metadata": {"total_size": total},
        "weight_map": dict(sorted(where.items()))})
  if column == "hf" and weights.heads:
    _write_json(os.path.join(path, "config.json"), hf_config.of(
        blocks.shapes_of(_leaves(weights)), weights.heads, dtype))


def _envelope(weights):
  """What the release's loaders look for; Drive-pi0's knows no stage."""
  envelope = {"cnt_update": 0, "cnt_batch": 0, "model": None, "wandb_id": None}
  if weights.alphas:
    number = lambda name: weights.meta.get(name)
    envelope |= {"run_name": None} | {
        name: None if number(name) is None else int(number(name))
        for name in files.NUMBERS}
  return envelope


def _compare(path, items, weights, column, dtype):
  """Reads all of it back through the reader and compares every element."""
  leaves = _leaves(weights)
  held = {p.path for i in items if i.entry for p in i.entry.pieces}
  like = {p: jax.ShapeDtypeStruct(leaves[p].shape, formats.DTYPES[dtype])
          for p in leaves if p in held and p != read.CARRIED}
  again = read.scan(path, blocks.unflatten(like))
  found = again.params | again.carried
  for item in items:
    for p in item.entry.pieces if item.entry else ():
      wanted = np.asarray(leaves[p.path][p.at]).astype(formats.DTYPES[dtype])
      if not tensors.same(wanted, found[p.path][p.at]):
        _differs(item.keys[0])
  for name, (key, _) in (
      names.alphas(blocks.shapes_of(like)) if column == "official"
      else {}).items():
    wanted = np.asarray(weights.alphas[name]).astype(formats.DTYPES[dtype])
    if not np.array_equal(wanted.astype(np.float32), again.alphas[name]):
      _differs(key)


def _differs(key):
  raise errors.CheckpointError(f"{key} differs")


def _taken(target):
  if os.path.isdir(target):
    return any(name.endswith((".safetensors", ".index.json"))
               or name == "config.json" for name in os.listdir(target))
  return os.path.exists(target)


def _require_space(partial, items, dtype, kind):
  need = sum(item.size(dtype) * (1 if kind == ".pt" else len(item.keys))
             for item in items)
  free = shutil.disk_usage(os.path.dirname(partial) or ".").free
  if need > free:
    raise OSError(28, f"No space left on device: {need:,} bytes needed, "
                  f"{free:,} free")


def _sync(path):
  for name in ([os.path.join(path, n) for n in sorted(os.listdir(path))]
               if os.path.isdir(path) else [path]):
    with open(name, "rb+") as file:
      os.fsync(file.fileno())


def _give_name(partial, target):
  """Moves a whole file or folder to its name, the index of shards last."""
  if not os.path.isdir(partial) or not os.path.isdir(target):
    os.replace(partial, target)
    return
  for name in os.listdir(target):
    if name.endswith((".safetensors", ".index.json")):
      os.remove(os.path.join(target, name))
  for name in sorted(os.listdir(partial),
                     key=lambda name: name.endswith(".json")):
    os.replace(os.path.join(partial, name), os.path.join(target, name))


def _write_json(path, value):
  with open(path, "w", encoding="utf-8") as file:
    json.dump(value, file, indent=1)


def _remove(path):
  if os.path.isdir(path):
    shutil.rmtree(path, ignore_errors=True)
  with contextlib.suppress(FileNotFoundError, IsADirectoryError):
    os.remove(path)
