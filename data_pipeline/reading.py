"""Reads files of others: whole, as what they should be, or refused.

Nothing here runs what it reads, and nothing makes more of a file than it may:
small files that unpack to gigabytes are refused before they do. What is wrong
is a ValueError that says why, or a UserError with the path and a remedy.
"""

import gzip
import io
import json
import math
import os
import zipfile

import numpy as np

from data_pipeline import errors

GZIP_BYTES = 1 << 25  # of an unpacked annotation; Bench2Drive's have under 5 MB
ARRAY_BYTES = 1 << 28  # that a smaller .npz may unpack to
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0,
           (2, 0): np.lib.format.read_array_header_2_0}


def content(path, remedy, kind=errors.DataError):
  """The bytes of a file.

  Args:
    path: of the file. remedy: what to do where it cannot be opened.
    kind: of the error.

  Raises:
    UserError of that kind: it cannot be opened or read.
  """
  try:
    with open(path, "rb") as file:
      return file.read()
  except OSError as error:
    raise kind(f"{path}: {error.strerror}; {remedy}") from None


def words(path, remedy):
  """The words of a text file, such as a list of routes.

  Raises:
    DataError: it cannot be opened, or is no text.
  """
  try:
    return content(path, remedy).decode().split()
  except UnicodeDecodeError as error:
    raise errors.DataError(f"{path} is no text ({error}); {remedy}") from None


def json_file(path, remedy, kind=errors.DataError, *, is_no="is no JSON",
              mend=None):
  """The value in a JSON file.

  Args:
    path, remedy, kind: see `content`. is_no, mend: what to say of a file that
      is no JSON, and what to do about it; default: the remedy.
  """
  data = content(path, remedy, kind)
  try:
    return parse(data)
  except ValueError as error:
    raise kind(f"{path} {is_no} ({error}); {mend or remedy}") from None


def parse(data):
  """JSON text or bytes -> value; all that is wrong with it is a ValueError."""
  try:
    return json.loads(data)
  except RecursionError:
    raise ValueError("it is nested too deeply") from None


def gunzip(data, most=GZIP_BYTES):
  """Unpacks gzip's bytes; ValueError for broken ones, or more than `most`."""
  try:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
      found = file.read(most + 1)
  except Exception as error:  # OSError, EOFError, zlib.error, struct.error
    raise ValueError(str(error)) from None
  if len(found) > most:
    raise ValueError(f"it unpacks to more than {most} bytes")
  return found


def arrays(file, keys=None):
  """{key: array} of an .npz.

  Args:
    file: path or binary file. keys: which to read; None for all.

  Raises:
    OSError: it cannot be opened.
    ValueError: it is broken, lacks a key, holds objects, or unpacks to more
      than its own size and ARRAY_BYTES.
  """
  try:
    with zipfile.ZipFile(file) as archive:
      members = {m.filename.removesuffix(".npy"): m
                 for m in archive.infolist()}
      lost = [key for key in keys or () if key not in members]
      if lost:
        raise ValueError(f"it lacks {', '.join(lost)}")
      chosen = {key: members[key] for key in keys or members}
      size = sum(member.file_size for member in chosen.values())
      if size > max(archive.fp.seek(0, os.SEEK_END), ARRAY_BYTES):
        raise ValueError(f"it unpacks to {size} bytes")
      return {key: _array(archive, member) for key, member in chosen.items()}
  except (OSError, ValueError, MemoryError):
    raise
  except Exception as error:  # zipfile raises what it likes for forged files
    raise ValueError(f"{type(error).__name__}: {error}") from None


def _array(archive, member):
  """One array; its size is checked before it is made."""
  with archive.open(member) as file:
    shape, fortran, dtype = array_header(file)
    left = member.file_size - file.tell()
    if math.prod(shape) * dtype.itemsize != left:
      raise ValueError(f"{member.filename} has {left} bytes for {dtype} "
                       f"{shape}")
    values = np.empty(shape, dtype, order="F" if fortran else "C")
    data = file.read(left)
    if len(data) != left:
      raise ValueError(f"{member.filename} is cut short")
    flat = values.reshape(-1, order="A")
    flat[:] = np.frombuffer(data, dtype) if left else flat
  return values


def array_header(file):
  """(shape, Fortran order, dtype) at the start of an .npy file.

  Raises:
    ValueError: no such header, or one of objects.
  """
  try:
    shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
  except (OSError, ValueError, MemoryError):
    raise
  except Exception as error:  # whatever evaluating a forged header raises
    raise ValueError(f"{type(error).__name__}: {error}") from None
  if dtype.hasobject or any(n < 0 for n in shape):
    raise ValueError(f"an array {shape} of {dtype} is not read")
  return shape, fortran, dtype
