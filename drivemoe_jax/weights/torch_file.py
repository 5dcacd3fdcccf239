"""PyTorch's .pt files, read and written without torch.

Such a file is a zip: a pickle that describes objects, and the bytes of each
storage as a member of its own. Reading never runs the pickle's code: the few
names that describe tensors and dictionaries are known here, any other one is
refused before anything is called.
"""

import dataclasses
import math
import pickle
import struct
import zipfile

from data_pipeline import errors
from drivemoe_jax.weights import blocks, zips

_STORAGES = {"FloatStorage": "F32", "HalfStorage": "F16",
             "BFloat16Storage": "BF16", "DoubleStorage": "F64",
             "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16",
             "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL"}
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4,
          "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a tensor's elements lie. code: as in safetensors, "F32" or "I64"."""

  code: str
  offset: int
  shape: tuple


class _Known:
  """Something that a pickle may call; it takes no state from the pickle."""

  def __init__(self, function):
    self._function = function

  def __call__(self, *args):
    return self._function(*args)

  def __setstate__(self, state):
    raise pickle.UnpicklingError("state for a name")


class _Dict(dict):
  """Stands for OrderedDict, whose attributes (_metadata) are dropped."""

  def __setstate__(self, state):
    pass


class _Unpickler(pickle.Unpickler):

  def __init__(self, file, storages):
    super().__init__(file, encoding="utf-8")
    self._storages = storages
    self._known = {
        ("collections", "OrderedDict"): _Known(lambda *args: _Dict(*args)),
        ("torch._utils", "_rebuild_tensor_v2"): _Known(self._tensor),
        ("torch._utils", "_rebuild_parameter"): _Known(lambda x, *_: x),
        ("torch", "Size"): _Known(lambda *args: tuple(*args)),
    } | {("torch", name): code for name, code in _STORAGES.items()}

  def find_class(self, module, name):
    if (module, name) not in self._known:
      raise pickle.UnpicklingError(
          f"it names {module}.{name}, which no file of plain tensors needs")
    return self._known[module, name]

  def persistent_load(self, pid):
    kind, code, key, _, count = pid
    if kind != "storage" or code not in _SIZES:
      raise pickle.UnpicklingError(f"unknown object {kind}")
    offset, size = self._storages[key]
    if size != count * _SIZES[code]:
      raise pickle.UnpicklingError(
          f"storage {key} has {size} bytes for {count} elements")
    return code, offset, count

  def _tensor(self, storage, start, shape, stride, *_):
    code, offset, count = storage
    dense, step = [], 1
    for size in reversed(shape):
      dense.append(step)
      step *= size
    moves = [(s, d) for s, d, n in zip(stride, reversed(dense), shape) if n > 1]
    if any(s != d for s, d in moves):
      raise pickle.UnpicklingError(
          f"a tensor {tuple(shape)} lies in strides; save it .contiguous()")
    if start < 0 or start + math.prod(shape) > count:
      raise pickle.UnpicklingError(f"a tensor {tuple(shape)} leaves its file")
    return Place(code, offset + start * _SIZES[code], tuple(shape))


def read(path, archive):
  """The object in an opened .pt, with Places for tensors.

  Raises:
    CheckpointError: a pickle of anything but plain data and tensors.
    zipfile.BadZipFile: no .pt.
  """
  members = {m.filename.partition("/")[2]: m for m in archive.infolist()}
  if "data.pkl" not in members:
    raise zipfile.BadZipFile("it has no data.pkl")
  if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
    raise zipfile.BadZipFile("its bytes are in big-endian order")
  storages = {}
  for name, member in members.items():
    if name.startswith("data/"):
      if member.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} is compressed")
      storages[name.removeprefix("data/")] = (
          zips.data_offset(path, member), member.file_size)
  try:
    with archive.open(members["data.pkl"]) as file:
      return _Unpickler(file, storages).load()
  except zipfile.BadZipFile:
    raise
  # A forged pickle fails in any way at all; it must not fail further up.
  except Exception as error:
    raise errors.CheckpointError(
        f"{path} is no PyTorch checkpoint of plain tensors ({error}); nothing "
        "of it was run; export it again as {'model': state_dict, ...}"
        ) from error


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
  return _tensor(*value, code)


def _global(module, name):
  return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tensor(number, shape, code):
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
