"""PyTorch's .pt files, read and written without torch.

Such a file is a zip: a pickle that describes objects, and the bytes of each
storage as a member of its own. Reading never runs the pickle (plain_pickle.py):
the few names that describe tensors and dictionaries are known here, any other
one is refused before anything is called.
"""

import dataclasses
import math
import pickle
import struct
import zipfile

from data_pipeline import errors
from drivemoe_jax.weights import blocks, plain_pickle, zips

_STORAGES = {"FloatStorage": "F32", "HalfStorage": "F16",
             "BFloat16Storage": "BF16", "DoubleStorage": "F64",
             "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16",
             "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL"}
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4,
          "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


LARGEST_PICKLE = 1 << 26  # the bytes that describe 3B parameters are 10^5


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a tensor's elements lie. code: as in safetensors, "F32" or "I64"."""

  code: str
  offset: int
  shape: tuple


@dataclasses.dataclass(frozen=True)
class _Storage:
  """A member with the elements of tensors: type, place and how many."""

  code: str
  offset: int
  count: int


def _dictionary(pairs=()):
  """Stands for OrderedDict."""
  if not all(type(key) is str for key, _ in pairs):
    raise TypeError("a key is no text")
  return dict(pairs)


def _tensor(storage, start, shape, stride, *_):
  """Stands for torch's function that makes a tensor of a storage."""
  numbers = (start, *shape, *stride)
  if not isinstance(storage, _Storage) or len(shape) != len(stride) or not all(
      type(n) is int and 0 <= n < 2**53 for n in numbers):
    raise TypeError("a tensor has no storage, shape and stride")
  dense, step = [], 1
  for size in reversed(shape):
    dense.append(step)
    step *= size
  moves = [(s, d) for s, d, n in zip(stride, reversed(dense), shape) if n > 1]
  if any(s != d for s, d in moves):
    raise ValueError(
        f"a tensor {tuple(shape)} lies in strides; save it .contiguous()")
  if start + math.prod(shape) > storage.count:
    raise ValueError(f"a tensor {tuple(shape)} leaves its file")
  return Place(storage.code, storage.offset + start * _SIZES[storage.code],
               tuple(shape))


KNOWN = {
    "collections OrderedDict": plain_pickle.Name(_dictionary),
    "torch._utils _rebuild_tensor_v2": plain_pickle.Name(_tensor),
    "torch._utils _rebuild_parameter": plain_pickle.Name(lambda x, *_: x),
    "torch Size": plain_pickle.Name(lambda sizes=(): tuple(sizes)),
} | {f"torch {name}": plain_pickle.Name(value=code)
     for name, code in _STORAGES.items()}


def read(path, archive):
  """The object in an opened .pt, with Places for tensors.

  Raises:
    CheckpointError: a pickle of anything but plain data and tensors.
    zipfile.BadZipFile: no .pt.
  """
  members = {m.filename.partition("/")[2]: m for m in archive.infolist()}
  if "data.pkl" not in members:
    raise zipfile.BadZipFile("it has no data.pkl")
  if "byteorder" in members and _small(
      archive, members["byteorder"]) != b"little":
    raise zipfile.BadZipFile("its bytes are in big-endian order")
  storages = {}
  for name, member in members.items():
    if name.startswith("data/"):
      if member.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} is compressed")
      storages[name.removeprefix("data/")] = (
          zips.data_offset(path, member), member.file_size)

  def storage(kind, code, key, _, count):
    if kind != "storage" or type(code) is not str or code not in _SIZES:
      raise ValueError("an object of an unknown kind")
    offset, size = storages[key]
    if size != count * _SIZES[code]:
      raise ValueError(f"storage {key} has {size} bytes for {count} elements")
    return _Storage(code, offset, count)

  try:
    return plain_pickle.load(_small(archive, members["data.pkl"]), KNOWN,
                             storage)
  except (zipfile.BadZipFile, MemoryError):
    raise
  # A forged pickle fails in any way at all; it must not fail further up.
  except Exception as error:
    raise errors.CheckpointError(
        f"{path} is no PyTorch checkpoint of plain tensors ({error}); nothing "
        "of it was run; export it again as {'model': state_dict, ...}"
        ) from error


def _small(archive, member):
  """The bytes of a member that must not be large once unpacked."""
  if member.file_size > LARGEST_PICKLE:
    raise zipfile.BadZipFile(f"{member.filename} unpacks to "
                             f"{member.file_size} bytes")
  return archive.read(member)


def write(path, envelope, entries, code):
  """Writes {**envelope, "model": {key: tensor}}.

  Args:
    envelope: plain ints, strings and None. The place of "model" in it is kept,
      its value is replaced.
    entries: [(keys, shape, data)]: keys that share one tensor, and a function
      that yields its bytes.
    code: "F32" or "BF16" of every tensor.
  """
  model = {key: (number, shape) for number, (keys, shape, _) in
           enumerate(entries) for key in keys}
  with zipfile.ZipFile(path, "w") as archive:
    whole = envelope | {"model": dict(sorted(
        model.items(), key=lambda item: blocks.natural(item[0])))}
    for name, content in (("data.pkl", _pickle(whole, code)),
                          ("byteorder", b"little"), ("version", b"3\n")):
      with zips.create(archive, f"archive/{name}") as file:
        file.write(content)
    for number, (_, _, data) in enumerate(entries):
      with zips.create(archive, f"archive/data/{number}") as file:
        file.writelines(data())


_STORAGE_OF = {code: name for name, code in _STORAGES.items()}


def _pickle(whole, code):
  """Protocol 2, in the opcodes that torch.load(weights_only=True) knows."""
  return pickle.PROTO + b"\2" + _value(whole, code) + pickle.STOP


def _value(value, code):
  if value is None:
    return pickle.NONE
  if isinstance(value, bool):
    return pickle.NEWTRUE if value else pickle.NEWFALSE
  if isinstance(value, int):
    if -2 ** 31 <= value < 2 ** 31:
      return pickle.BININT + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data
  if isinstance(value, str):
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data
  if isinstance(value, dict):
    items = b"".join(_value(k, code) + _value(v, code)
                     for k, v in value.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
  return _tensor_call(*value, code)  # pyright: ignore[reportCallIssue]


def _global(module, name):
  return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tensor_call(number, shape, code):
  stride, step = [], 1
  for size in reversed(shape):
    stride.insert(0, step)
    step *= size
  tuple_of = lambda *parts: pickle.MARK + b"".join(parts) + pickle.TUPLE
  plain = lambda x: _value(x, code)
  storage = tuple_of(
      plain("storage"), _global("torch", _STORAGE_OF[code]),
      plain(str(number)), plain("cpu"), plain(step)) + pickle.BINPERSID
  hooks = (_global("collections", "OrderedDict") + pickle.EMPTY_TUPLE
           + pickle.REDUCE)
  return _global("torch._utils", "_rebuild_tensor_v2") + tuple_of(
      storage, plain(0), tuple_of(*map(plain, shape)),
      tuple_of(*map(plain, stride)), plain(False), hooks) + pickle.REDUCE
