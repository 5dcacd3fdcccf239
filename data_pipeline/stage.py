"""One atomic file per route: the first, costly and parallel half of prepare.

A staged file holds the route's finished records and, last, its numbers as an
npz archive with what they were made from. It appears under its name only when
whole; a route that cannot be used leaves a note with the reason instead.
"""

import glob
import hashlib
import io
import json
import os

import numpy as np
from array_record.python import array_record_module

from data_pipeline import (
    bench2drive,
    errors,
    prepared,
    reading,
    records,
    schema,
)

FORMAT = 1  # of staged files; another is done again
SUFFIX, NOTE = ".array_record", ".unusable.json"
# Records are compressed images already. One record a chunk: random access
# reads nothing else, and each record has its own checksum.
WRITER_OPTIONS = "group_size:1,uncompressed"
MADE = {"format": int, "version": str, "size": schema.count, "encoding": str,
        "frames": schema.count, "sha256": str}  # what a staged file says


def stage_route(source, folder, size, encoding, name):
  """Writes one route's file, or a note why it cannot be used.

  Args:
    source: records.Source.
    folder: of the staged files.
    size, encoding: side and records.ENCODINGS key of the images.
    name: of the route.

  Raises:
    StorageError: the disk is full or cannot be written.
  """
  path = os.path.join(folder, name + SUFFIX)
  draft = f"{path}.partial-{os.getpid()}"
  try:
    write_records(draft, source, size, encoding, name)
    os.replace(draft, path)
  except errors.DataError as error:
    _write_note(folder, name, error)
  except (OSError, RuntimeError) as error:  # the latter is ArrayRecord's
    raise storage_error(path, error) from None
  finally:
    if os.path.exists(draft):
      os.remove(draft)


def storage_error(path, error):
  """What to say when `path` cannot be written."""
  reason = "no space left on the disk" if (
      "No space left" in str(error)) else str(error)
  return errors.StorageError(
      f"{path} cannot be written: {reason}; free some space and start the "
      "same command again, it goes on from the finished routes")


def write_records(path, source, size, encoding, name):
  """Writes a route's records and, last, its numbers; see stage_route.

  Raises:
    DataError: a file of the route is missing or broken.
  """
  version = source.version(name)
  route = source.read(name)
  digest = hashlib.sha256()
  writer = array_record_module.ArrayRecordWriter(path, WRITER_OPTIONS)
  try:
    for t in range(len(route)):
      data = records.encode(records.of_route(route, t, {
          camera: records.encode_image(
              source.pixels(name, camera, t, size), encoding)
          for camera in records.IMAGES}))
      digest.update(data)
      writer.write(data)
    made = {"format": FORMAT, "version": version, "size": size,
            "encoding": encoding, "frames": len(route),
            "sha256": digest.hexdigest()}
    writer.write(_pack_numbers(route, made))
  finally:
    writer.close()


def _pack_numbers(route, made):
  unlabelled = np.full(len(route), records.UNLABELLED, np.int32)
  arrays = {key: getattr(route, key) for key in records.NUMBERS}
  arrays |= {key: unlabelled if getattr(route, key) is None
             else getattr(route, key) for key in records.LABELS}
  out = io.BytesIO()
  np.savez(out, made=json.dumps(made), **arrays)
  return out.getvalue()


class RouteFile:
  """A staged route, opened for reading."""

  def __init__(self, folder, name):
    """Raises DataError when the file is damaged."""
    self._path = os.path.join(folder, name + SUFFIX)
    self._reader = array_record_module.ArrayRecordReader(
        self._path, options="readahead_buffer_size:0")
    count = self._reader.num_records()
    if not count:  # what ArrayRecord makes of a file cut short
      raise self._damaged("it was cut short")
    try:
      (last,) = self._reader.read([count - 1])
      self.arrays = reading.arrays(io.BytesIO(last), (
          "made", *records.NUMBERS, *records.LABELS))
      self.made = reading.parse(str(self.arrays.pop("made")))
    except (RuntimeError, ValueError, IndexError, OSError) as error:
      raise self._damaged(error) from None
    why = schema.fault(self.made, MADE, "made") or prepared.fault_of_arrays(
        self.arrays, self.made["frames"])
    if why or count != self.made["frames"] + 1:
      raise self._damaged(why or f"it holds {count} records")

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._reader.close()

  def records(self):
    """Yields the decoded records, in order."""
    for t in range(self.made["frames"]):
      try:
        yield records.check(records.decode(self._reader.read([t])[0]))
      except (RuntimeError, ValueError, IndexError) as error:
        raise self._damaged(error) from None

  def _damaged(self, error):
    return errors.DataError(
        f"{self._path} is damaged ({error}); remove it and prepare again")


def staged(source, folder, size, encoding, names):
  """Returns the routes whose files are whole and made as asked for."""
  found = set()
  for name in names:
    if not os.path.exists(os.path.join(folder, name + SUFFIX)):
      continue
    try:
      with RouteFile(folder, name) as file:
        wanted = {"format": FORMAT, "version": source.version(name),
                  "size": size, "encoding": encoding}
        if wanted.items() <= file.made.items():
          found.add(name)
    except errors.DataError:
      continue  # done again
  return found


def clean(folder):
  """Removes what a killed run left half done, and its notes."""
  for pattern in ("*.partial-*", "*" + NOTE):
    for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
      os.remove(path)


def _write_note(folder, name, error):
  path = os.path.join(folder, name + NOTE)
  with open(path + ".partial-note", "w", encoding="utf-8") as file:
    json.dump({"why": error.args[0], "misaligned": isinstance(
        error, bench2drive.MisalignedError)}, file)
  os.replace(path + ".partial-note", path)


def unusable(folder, names):
  """Returns {name: DataError} of the routes with a note."""
  found = {}
  for name in names:
    path = os.path.join(folder, name + NOTE)
    if os.path.exists(path):
      note = reading.json_file(path, "remove it and prepare again")
      why = schema.fault(note, {"why": str, "misaligned": bool}, "the note")
      if why:
        raise errors.DataError(f"{path} is no note of a route ({why}); remove "
                               "it and prepare again")
      kind = (bench2drive.MisalignedError if note["misaligned"]
              else errors.DataError)
      found[name] = kind(note["why"])
  return found
