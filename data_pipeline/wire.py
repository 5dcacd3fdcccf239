"""Messages between a simulator and a policy server: msgpack with arrays.

The format is openpi's: an array is a map of `__ndarray__`, data, dtype and
shape, all keys bytes. Only numbers are let in: nothing here can run code, and
a message cannot make more of itself than MAX_CONTAINERS small objects. Python
3.7's syntax: the CARLA agent runs this file.
"""

import msgpack
import numpy as np

from data_pipeline import errors

MAX_CONTAINERS = 1000   # maps and lists in a message
LONGEST_KEY = 1000
KINDS = "buif"          # dtypes: bool, unsigned, int, float


def pack(message):
  """Message of str-keyed dicts, lists, scalars and arrays -> bytes."""
  return msgpack.packb(message, default=_encode)


def _encode(value):
  if isinstance(value, (np.ndarray, np.generic)):
    if value.dtype.kind not in KINDS:
      raise TypeError(f"dtype {value.dtype} cannot be sent")
    if isinstance(value, np.ndarray):
      return {b"__ndarray__": True, b"data": value.tobytes(),
              b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(),
            b"dtype": value.dtype.str}
  raise TypeError(f"{type(value).__name__} cannot be sent")


def unpack(data):
  """Bytes -> message; arrays are read-only views of `data`.

  Raises:
    DataError: no message of this format, whatever it is.
  """
  count = [0]

  def counted(value):
    count[0] += 1
    if count[0] > MAX_CONTAINERS:
      raise ValueError(f"more than {MAX_CONTAINERS} maps and lists")
    return value

  try:
    return msgpack.unpackb(
        data, raw=False, object_hook=lambda m: _decode(counted(m)),
        list_hook=counted, strict_map_key=True, max_ext_len=0,
        max_array_len=MAX_CONTAINERS, max_map_len=MAX_CONTAINERS)
  except Exception as error:  # msgpack raises what it likes
    raise errors.DataError(
        f"message of {len(data)} bytes is no msgpack with arrays "
        f"({type(error).__name__}: {_short(error)}); send what "
        "data_pipeline.wire.pack or openpi's msgpack_numpy writes") from None


def _decode(value):
  if b"__ndarray__" in value:
    dtype, shape = _dtype(value[b"dtype"]), value[b"shape"]
    if not all(type(n) is int and n >= 0 for n in shape):
      raise ValueError(f"array of shape {shape!r}")
    return np.frombuffer(value[b"data"], dtype).reshape(shape)
  if b"__npgeneric__" in value:
    return _dtype(value[b"dtype"]).type(value[b"data"])
  return value


def _dtype(name):
  if not isinstance(name, str) or len(name) > 4:
    raise ValueError(f"dtype {_short(name)!r}")
  dtype = np.dtype(name)
  if dtype.kind not in KINDS:
    raise ValueError(f"dtype {name!r} is not let in")
  return dtype


def _short(value):
  text = str(value)
  return text if len(text) <= 120 else text[:117] + "..."


def read_key(path):
  """The API key in the first line of a file, as both sides read it.

  Raises:
    ConfigError: no such file, or an empty line.
  """
  try:
    with open(path, encoding="utf-8") as file:
      key = file.readline(LONGEST_KEY).strip()
  except (OSError, UnicodeDecodeError) as error:
    why = getattr(error, "strerror", None) or "it is no text"
    raise errors.ConfigError(f"{path}: {why}; it must hold the API "
                             "key in its first line") from None
  if not key:
    raise errors.ConfigError(
        f"{path}: its first line is empty; write the API key there")
  return key
