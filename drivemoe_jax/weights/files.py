"""Opens a weight file of any format: what lies in it, and where.

The format is detected from the bytes, whose names it bears from the keys. A
tensor is read when its rows are asked for, straight from its place in the
file: no memory map, which would count as this process's own memory.
"""

import dataclasses
import math
import os
import zipfile

import safetensors

from data_pipeline import errors, reading, schema
from drivemoe_jax.weights import spelling, store, tensors, torch_file, zips

NUMBERS = ("stage", "horizon_steps", "cond_steps")
MOST_AXES = 8
INDEX = "model.safetensors.index.json"
LICENCE = ("accept the licence at huggingface.co/google/paligemma-3b-pt-224 or "
           "at kaggle.com/models/google/paligemma, log in and download again")


@dataclasses.dataclass(frozen=True)
class File:
  """An opened source.

  Attributes:
    path: for messages. tensors: {key: Tensor}, keys in one spelling.
    column: whose names they are: official, hf, bv or pi0.
    meta: ints under NUMBERS, as far as the file tells.
    heads: {"vision", "text", "kv"} attention heads, None where not told.
    tree: {path: shape} of our tree where it is known, else {}.
  """

  path: str
  tensors: dict
  column: str
  meta: dict
  heads: dict | None = None
  tree: dict = dataclasses.field(default_factory=dict)

  @property
  def shapes(self):
    return {key: tensor.shape for key, tensor in self.tensors.items()}


def open_file(path):
  """Opens a weight file or folder.

  Raises:
    CheckpointError: nothing there, no weights, or not whole.
  """
  if not os.path.exists(path):
    raise errors.CheckpointError(f"no weights at {path}; check the path")
  if os.path.isdir(path):
    return _open_folder(path)
  with open(path, "rb") as file:
    start = file.read(512)
  _refuse_pages(path, start)
  if start.startswith(b"PK"):
    return _open_zip(path)
  if start.startswith(b"\x80"):
    raise errors.CheckpointError(
        f"{path} is a bare pickle or a PyTorch file from before 1.6, which "
        "cannot be read without running it; save it anew with torch.save")
  return _open_safetensors([path])


def _refuse_pages(path, start):
  text = start.lstrip().lower()
  if text.startswith((b"<!doctype", b"<html", b"<?xml", b'{"error', b"access")):
    raise errors.CheckpointError(
        f"{path} is no whole weight file but a web page: the download was "
        f"refused; {LICENCE}")
  if text.startswith(b"version https://git-lfs"):
    raise errors.CheckpointError(
        f"{path} is a git-lfs pointer, no whole weight file; fetch the file "
        "itself with `git lfs pull`")


def _open_folder(path):
  index = os.path.join(path, INDEX)
  listing = sorted(os.listdir(path))
  shards = [name for name in listing if name.endswith(".safetensors")]
  if os.path.isfile(index):
    listed = read_json(index)
    why = schema.fault(listed, {"weight_map": schema.Each(schema.name)})
    if why:
      raise errors.CheckpointError(
          f"{index} is no list of weight files ({why}); download it again")
    wanted = set(listed["weight_map"].values())
    if lost := sorted(wanted - set(shards)):
      raise errors.CheckpointError(
          f"{path} is not whole: {index} names {', '.join(lost)}; download "
          "what is missing")
    shards = sorted(wanted)
  if shards:
    return _open_safetensors([os.path.join(path, name) for name in shards])
  place = path if store.is_store(path) else os.path.join(path, "params")
  if store.is_store(place):
    return _of_openpi(path, place)
  raise errors.CheckpointError(
      f"{path} is neither a training folder (config.json, checkpoints/) nor "
      "does it hold *.safetensors or Orbax parameters; name a weight file")


def _open_safetensors(paths):
  found, meta = {}, {}
  for path in paths:
    try:
      # The library checks the header, every tensor's place and the file's end.
      with safetensors.safe_open(path, "np"):
        header, start = _header(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise errors.CheckpointError(
          f"{path} is no whole safetensors file ({error}); copy or download "
          "it again") from error
    meta |= header.pop("__metadata__", None) or {}
    for key, told in header.items():
      if key in found:
        raise errors.CheckpointError(
            f"{path}: a second tensor {key}; remove one of the files")
      if told["dtype"] not in tensors.FLOATS:
        raise errors.CheckpointError(
            f"{path}: {key} is {told['dtype']}; weights must be one of "
            f"{', '.join(tensors.FLOATS)}")
      found[key] = tensors.stored(path, start + told["data_offsets"][0],
                            told["shape"], tensors.FLOATS[told["dtype"]])
  name = os.path.dirname(paths[0]) if len(paths) > 1 else paths[0]
  try:
    heads = reading.parse(meta["heads"]) if "heads" in meta else None
    numbers = {n: int(meta[n]) for n in NUMBERS if n in meta}
  except ValueError as error:
    raise errors.CheckpointError(
        f"{name}: its metadata makes no sense ({error}); export it again"
        ) from None
  return _named(name, found, numbers, _checked_heads(name, heads) or
                _config_heads(os.path.dirname(paths[0])))


def _header(path):
  """(parsed header, where the tensors begin) of a checked safetensors file."""
  with open(path, "rb") as file:
    size = int.from_bytes(file.read(8), "little")
    return reading.parse(file.read(size)), 8 + size


def _open_zip(path):
  try:
    with zipfile.ZipFile(path) as archive:
      members = archive.infolist()
      if not any(m.filename.endswith(".npy") for m in members):
        return _of_torch(path, torch_file.read(path, archive))
      found = dict(_npz_tensor(path, archive, m)
                   for m in _weights_of(members, archive))
  except (errors.UserError, MemoryError):
    raise
  except Exception as error:  # zipfile raises what it likes for forged files
    raise errors.CheckpointError(
        f"{path} is no whole .npz or PyTorch file ({error}); copy or download "
        "it again") from error
  return _named(path, found, {}, None)


def _weights_of(members, archive):
  """Members without a trainer's counters, which lie beside params/."""
  if not any(m.filename.startswith("params/") for m in members):
    return members
  def is_float(member):
    with archive.open(member) as file:
      dtype = reading.array_header(file)[2]
    return dtype.str == "|V2" or dtype in tensors.FLOATS.values()
  return [m for m in members
          if m.filename.startswith("params/") or is_float(m)]


def _npz_tensor(path, archive, member):
  """(key, Tensor) of one array of an .npz."""
  with archive.open(member) as file:
    shape, fortran, dtype = reading.array_header(file)
    skip = file.tell()
  key = member.filename.removesuffix(".npy")
  # numpy has no bfloat16: such arrays are saved as two raw bytes.
  dtype = tensors.FLOATS["BF16"] if dtype.str == "|V2" else dtype
  if fortran or dtype not in tensors.FLOATS.values():
    raise errors.CheckpointError(
        f"{path}: {key} is {dtype}{' in Fortran order' * fortran}; weights "
        f"must be one of {', '.join(tensors.FLOATS)}, in C order")
  if math.prod(shape) * dtype.itemsize != member.file_size - skip:
    raise ValueError(f"{key} has {member.file_size - skip} bytes for {dtype} "
                     f"{shape}")
  if member.compress_type == zipfile.ZIP_STORED:
    offset = zips.data_offset(path, member)
    if offset + member.file_size > os.path.getsize(path):
      raise ValueError(f"{key} is cut short")
    return key, tensors.stored(path, offset + skip, shape, dtype)
  stream = zips.Deflated(path, member.filename, skip)
  return key, tensors.deflated(stream, shape, dtype, (path, key))


def _of_torch(path, whole):
  if not isinstance(whole, dict) or not isinstance(whole.get("model"), dict):
    raise errors.CheckpointError(
        f"{path} has no 'model' entry, so it is no official checkpoint; write "
        "it as {'model': state_dict, ...}")
  found = {}
  for key, value in whole["model"].items():
    if not isinstance(value, torch_file.Place):
      raise errors.CheckpointError(
          f"{path}: {key} is a {type(value).__name__}, not a tensor; the "
          "'model' entry must hold tensors alone")
    if value.code not in tensors.FLOATS:
      raise errors.CheckpointError(
          f"{path}: {key} is {value.code}; weights must be floating point, "
          f"one of {', '.join(tensors.FLOATS)}")
    found[key] = tensors.stored(path, value.offset, value.shape,
                                tensors.FLOATS[value.code])
  return _named(path, found, {
      n: whole[n] for n in NUMBERS if isinstance(whole.get(n), int)}, None)


def _of_openpi(path, place):
  found = {key.removeprefix("params/").removesuffix("/value"): tensor
           for key, tensor in store.tensors_of(place).items()}
  return _named(path, found, {}, None)


def _named(path, found, meta, heads):
  """File with its keys in the one spelling of the format they belong to."""
  for key, tensor in found.items():
    if 0 in tensor.shape or len(tensor.shape) > MOST_AXES:
      raise errors.CheckpointError(
          f"{path}: {key} has the shape {tensor.shape}, so it is no weight; "
          "name a whole file")
  column, spelled = spelling.normalise(path, found)
  return File(path, spelled, column, meta, heads)


def _config_heads(folder):
  """Heads as a Hugging Face config.json tells them, None without one."""
  path = os.path.join(folder, "config.json")
  told = read_json(path) if os.path.isfile(path) else {}
  try:
    text, vision = told["text_config"], told["vision_config"]
    heads = {"vision": vision["num_attention_heads"],
             "text": text["num_attention_heads"],
             "kv": text["num_key_value_heads"]}
  except (KeyError, TypeError):
    return None
  return _checked_heads(path, heads)


def _checked_heads(path, heads):
  """Heads as they were told, if there are any."""
  why = heads is not None and schema.fault(
      heads, dict.fromkeys(("vision", "text", "kv"), _positive), "heads")
  if why:
    raise errors.CheckpointError(
        f"{path}: {why} of attention heads; correct or download it again")
  return heads


def _positive(value):
  """A whole number from 1 on."""
  return schema.count(value) and value > 0


def read_json(path):
  """The content of a JSON file; CheckpointError if it is not whole."""
  return reading.json_file(path, "download it again", errors.CheckpointError,
                           is_no="is no whole JSON file")
