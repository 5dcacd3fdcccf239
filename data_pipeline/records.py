"""The record: one frame of any data set, as prepared shards hold it.

A record is a tf.train.Example whose features are all bytes: the numbers of a
bench2drive.Route at that frame, both labels, and six encoded images. Another
data set joins in by a Source; data_pipeline.prepare does the rest. Encoding is
canonical, so that equal frames are equal bytes. Axis: S image side.
"""

import io
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from data_pipeline import spec


class Field(NamedTuple):
  """A number of a record, little-endian; `shape` and `dtype` of one frame."""

  shape: tuple
  dtype: str
  meaning: str


# Raw float64, so that windows cut from records and from raw routes are equal.
NUMBERS = {
    "position": Field((2,), "float64", "m, world (x forward, y right of it)"),
    "heading": Field((), "float64", "rad, world yaw, clockwise from above"),
    "speed": Field((), "float64", "m/s, forward"),
    "acceleration": Field((3,), "float64", "m/s^2, body, with gravity"),
    "angular_velocity": Field((3,), "float64", "rad/s, body frame"),
    "far_node": Field((2,), "float64", "m, world, next sparse route point"),
}
UNLABELLED = -1
LABELS = {
    "camera": Field((), "int32", f"spec.Camera, {UNLABELLED} without label"),
    "skill": Field((), "int32", f"spec.Skill, {UNLABELLED} without label"),
}
FIELDS = {
    "frame": Field((), "int64", "index in the route, 0.1 s apart"),
    **NUMBERS, **LABELS,
}
ROUTE = "route"                # the route's name, UTF-8
IMAGES = spec.CAMERA_FOLDERS   # one encoded [S,S,3] RGB image each
ENCODINGS = {                  # --encoding -> what Pillow's save takes
    # Level 1: a third of the default's time for a few per cent of size.
    "png": {"format": "PNG", "compress_level": 1},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


class Source(Protocol):
  """Where routes come from. Pickled to worker processes: keep it small.

  Methods given a name raise errors.DataError for what cannot be used.
  """

  def facts(self):
    """Returns {name: value}, for the manifest: how the routes are read."""

  def names(self):
    """Returns the sorted names of all routes."""

  def length(self, name):
    """Returns the number of frames, without opening them."""

  def version(self, name):
    """Returns a short string that changes when the route's labels or numbers
    do, without reading images: what was prepared from another is redone."""

  def read(self, name):
    """Returns the route's numbers and labels: bench2drive.Route."""

  def pixels(self, name, camera, frame, size):
    """Returns [S,S,3] uint8 RGB of one of IMAGES, resized to S = size."""


def encode_image(pixels, encoding):
  """[S,S,3] uint8 -> bytes in one of ENCODINGS."""
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, **ENCODINGS[encoding])
  return out.getvalue()


def of_route(route, frame, images):
  """Returns the record {key: bytes} of one frame.

  Args:
    route: bench2drive.Route.
    frame: index in it.
    images: {camera folder: encoded image} of all of IMAGES.
  """
  values = {"frame": frame}
  values |= {key: getattr(route, key)[frame] for key in NUMBERS}
  for key in LABELS:
    labels = getattr(route, key)
    values[key] = UNLABELLED if labels is None else labels[frame]
  record = {ROUTE: route.name.encode()}
  record |= {key: _little(value, FIELDS[key].dtype).tobytes()
             for key, value in values.items()}
  return record | {camera: images[camera] for camera in IMAGES}


def check(record):
  """Returns a decoded record; ValueError unless it has all that one has."""
  for key in FIELDS:
    number(record, key)
  for key in (ROUTE, *IMAGES):
    if key not in record:
      raise ValueError(f"no record of a frame: it has no {key}")
  return record


def number(record, key):
  """One of FIELDS of a decoded record -> array of that shape and dtype.

  Raises:
    ValueError: it is not there, or of another size.
  """
  if key not in record:
    raise ValueError(f"no record of a frame: it has no {key}")
  field = FIELDS[key]
  dtype = np.dtype(field.dtype).newbyteorder("<")
  value = np.frombuffer(record[key], dtype).reshape(field.shape)
  return value.astype(field.dtype)


def _little(value, dtype):
  return np.asarray(value, np.dtype(dtype).newbyteorder("<"))


# The few rules of protocol buffers that such an Example takes: it spares the
# evaluation the import of TensorFlow, and every reader the copy of images that
# it does not want. Example{1: Features{1: {1: key, 2: Feature{1: BytesList{1:
# value}}} ...}}}, each a (tag, length, content) triple.
_VALUE, _FEATURE = 0x0A, 0x12  # fields 1 and 2, length-delimited


def encode(record):
  """{key: bytes} -> serialised tf.train.Example, keys sorted."""
  entries = b"".join(
      _message(_VALUE, _message(_VALUE, key.encode()) + _message(
          _FEATURE, _message(_VALUE, _message(_VALUE, record[key]))))
      for key in sorted(record))
  return _message(_VALUE, entries)


def decode(data):
  """Serialised Example -> {key: memoryview}, nothing copied.

  Raises:
    ValueError: bytes of something else.
  """
  record = {}
  (features,) = _fields(memoryview(data))
  for _, entry in _fields(features[1]):
    (_, key), (_, feature) = _fields(entry)
    ((_, values),) = _fields(feature)
    ((_, record[str(key, "utf-8")]),) = _fields(values)
  return record


def _message(tag, content):
  size, varint = len(content), bytearray()
  while size > 127:
    varint.append(size & 127 | 128)
    size >>= 7
  varint.append(size)
  return bytes((tag,)) + varint + content


def _fields(data):
  """Returns [(tag, content), ...] of a message of length-delimited fields."""
  found, at = [], 0
  while at < len(data):
    tag, size, shift = data[at], 0, 0
    at += 1
    while True:
      byte = data[at] if at < len(data) else 128
      size |= (byte & 127) << shift
      at, shift = at + 1, shift + 7
      if byte < 128:
        break
      if shift > 63:
        raise ValueError("no record: a length does not end")
    if tag not in (_VALUE, _FEATURE) or at + size > len(data):
      raise ValueError("no record: not an Example of bytes")
    found.append((tag, data[at:at + size]))
    at += size
  return found
