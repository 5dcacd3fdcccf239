"""A file of JSON lines, one a step, that outlives kills and a full disk.

What the disk refuses stays in memory and is tried again with the next line; a
line is on disk whole or, after a kill, dropped by the next start.
"""

import errno
import json
import os

from data_pipeline import errors, reading, schema

REMEDY = "remove that line, or restore the file, and start again"


class Lines:
  """Appends lines to a file, which is made with the first of them."""

  def __init__(self, path, done, say):
    """Opens the file behind step `done`; `say` prints a line.

    Raises:
      OSError: the file is there and cannot be read or cut.
    """
    self._path, self._say = path, say
    self.before = cut(path, done)
    self._waiting, self._told = [], False

  def add(self, value):
    """Writes a JSON object, or keeps it until the disk takes it."""
    self._waiting.append(json.dumps(value) + "\n")
    try:
      _append(self._path, "".join(self._waiting).encode())
    except OSError as error:
      if not self._told:
        self._say(f"W-LOG: {self._path} cannot be written ({error.strerror}); "
                  "its lines wait in memory: free space there or make it "
                  "writable")
      self._told = True
      return
    if self._told:
      self._say(f"W-LOG: {self._path} is written again, with the "
                f"{len(self._waiting)} lines that waited")
    self._waiting, self._told = [], False

  def close(self):
    """Tells what was never written."""
    if self._waiting:
      self._say(f"W-LOG: {len(self._waiting)} lines of {self._path} are lost, "
                "the disk did not take them")


def cut(path, done):
  """Keeps the lines up to step `done`, atomically; returns their contents."""
  if not os.path.exists(path):
    return []
  lines = reading.content(path, REMEDY).decode("utf-8", "replace").splitlines(
      keepends=True)
  whole = [line for line in lines if line.endswith("\n")]  # a kill cuts one
  kept = [line for line in whole if _step(path, line) <= done]
  if kept != lines:
    with open(path + ".part", "w", encoding="utf-8") as file:
      file.writelines(kept)
    os.replace(path + ".part", path)
  return [json.loads(line) for line in kept]


def _step(path, line):
  """The step of a line."""
  try:
    values = reading.parse(line)
  except ValueError as error:
    raise errors.DataError(
        f"{path} is broken ({error} in {line.strip()!r:.80}); {REMEDY}"
        ) from None
  why = schema.fault(values, {"step": schema.count}, "a line")
  if why:
    raise errors.DataError(f"{path} is broken ({why}); {REMEDY}")
  return values["step"]


def _append(path, data):
  """Appends all of it or nothing."""
  with open(path, "ab", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    try:
      if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
      file.truncate(size)
      raise
