"""Members of zip files, which .npz and PyTorch's .pt are, as plain bytes."""

import os
import struct
import zipfile

ALIGN = 64  # as PyTorch aligns its members, so that they can be mapped
_LOCAL = 30  # bytes of a local header before its name
_ZIP64 = 20  # bytes that zipfile adds to the extra field of a large member
_PADDING = 0x4246  # the id under which PyTorch pads


def data_offset(path, member):
  """Where the bytes of a stored member begin."""
  with open(path, "rb") as file:
    file.seek(member.header_offset)
    header = file.read(_LOCAL)
  if len(header) < _LOCAL or header[:4] != b"PK\3\4":
    raise zipfile.BadZipFile(f"no member at {member.header_offset}")
  name, extra = struct.unpack("<HH", header[26:30])
  return member.header_offset + _LOCAL + name + extra


def create(archive, name):
  """Opens a new stored member of a ZipFile for writing, aligned."""
  info = zipfile.ZipInfo(name)
  start = archive.start_dir + _LOCAL + len(name.encode()) + 4 + _ZIP64
  info.extra = struct.pack("<HH", _PADDING, -start % ALIGN) + (
      b"\0" * (-start % ALIGN))
  return archive.open(info, "w", force_zip64=True)


class Deflated:
  """A compressed member, which can be read forwards only."""

  def __init__(self, path, name, skip):
    """skip: bytes before the first element."""
    self._path, self._name, self._skip = path, name, skip
    self._file, self._at = None, 0

  def read(self, offset, size):
    """Bytes from `offset` on; going back starts anew."""
    if self._file is None or offset < self._at:
      self._file = zipfile.ZipFile(self._path).open(self._name)
      self._file.read(self._skip)
      self._at = 0
    self._file.seek(offset - self._at, os.SEEK_CUR)
    self._at = offset + size
    return bytearray(self._file.read(size))
