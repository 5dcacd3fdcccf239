"""Reads a prepared folder: its manifest, its numbers, its records.

The index holds the numbers of all frames, so that windows of any horizon are
cut without opening a shard. Axes: N frames of a route, S image side.
"""

import functools
import hashlib
import json
import os
import threading
import zipfile

import numpy as np
from array_record.python import array_record_module

from data_pipeline import bench2drive, errors, images, reading, records
from data_pipeline import windows as windows_lib

FORMAT = 1
MANIFEST, INDEX = "manifest.json", "index.npz"
REMEDY = ("check with launch.verify_data, prepare it again, or set "
          "on_bad_record=skip")


def is_prepared(root):
  """Whether `root` is a finished prepared folder."""
  return os.path.isfile(os.path.join(root, MANIFEST))


def read_manifest(root):
  """Returns the manifest of a prepared folder.

  Raises:
    DataError: none, a broken one, or one of another format.
  """
  path = os.path.join(root, MANIFEST)
  data = reading.content(
      path, "launch.prepare writes it last, start it again to finish the "
      "folder")
  try:
    manifest = json.loads(data)
    found = manifest["format"]
  except (KeyError, TypeError, ValueError) as error:
    raise errors.DataError(
        f"{path} is no manifest ({type(error).__name__}: {error}); prepare "
        "the folder again") from None
  if found != FORMAT:
    raise errors.DataError(
        f"{path} is of format {found}, this program reads format {FORMAT}; "
        "prepare the data again, or use the version that wrote it")
  return manifest


def file_hash(path):
  """sha256 of a file's bytes, as the manifest has it."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


class Prepared:
  """The numbers of a prepared folder, and where its records are."""

  def __init__(self, root):
    """Raises DataError for a missing, broken or foreign manifest or index."""
    self.root = root
    self.manifest = read_manifest(root)
    self.routes = {route["name"]: route for route in self.manifest["routes"]}
    frames = [route["frames"] for route in self.manifest["routes"]]
    starts = np.cumsum([0, *frames])
    self._rows = {name: slice(*starts[i:i + 2])
                  for i, name in enumerate(self.routes)}
    self._arrays = self._read_index(starts[-1])

  def _read_index(self, frames):
    path = os.path.join(self.root, INDEX)
    try:
      with np.load(path) as content:
        arrays = {key: content[key] for key in (
            *records.NUMBERS, *records.LABELS)}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
      raise errors.DataError(
          f"{path} cannot be read ({error}); prepare the folder again"
          ) from None
    for key, array in arrays.items():
      if len(array) != frames:
        raise errors.DataError(
            f"{path}: {len(array)} rows of {key}, the manifest counts "
            f"{frames} frames; prepare the folder again")
    return arrays

  def names(self):
    """Sorted names of the routes."""
    return sorted(self.routes)

  def read_route(self, name):
    """Returns bench2drive.Route, as read from the raw folders."""
    rows = self._rows[name]
    return to_route(
        name, {key: array[rows] for key, array in self._arrays.items()})

  def collect(self, names, *, on_bad_record="fail", skip_cap=0.05,
              nan_heading="box", **options):
    """Joins the windows of routes, as windows.collect does for raw ones.

    Args:
      names: routes of the folder, in the order to join them.
      on_bad_record, skip_cap: what to do about routes too short for the
        horizon; see windows.collect.
      nan_heading: what the run asks for; it was settled by launch.prepare.
      **options: see windows.make_windows.

    Raises:
      ConfigError: the folder was prepared with another nan_heading.
      DataError: a short route as described, or no sample at all.
    """
    # Other sources than Bench2Drive have headings for all frames.
    made = self.manifest["source"].get("nan_heading", nan_heading)
    if made != nan_heading:
      raise errors.ConfigError(
          f"{self.root} was prepared with nan_heading {made!r}, this run asks "
          f"for {nan_heading!r}; prepare with --nan-heading {nan_heading}, or "
          f"set data.nan_heading={made}")
    cut = lambda name: windows_lib.make_windows(
        self.read_route(name), root=self.root, **options)
    return windows_lib.gather(self.root, cut, names, skip_cap=skip_cap,
                              on_bad_record=on_bad_record)


def to_route(name, arrays):
  """{key: array [N, ...]} of records.NUMBERS and LABELS -> Route."""
  labels = {key: None if (arrays[key] == records.UNLABELLED).all()
            else arrays[key] for key in records.LABELS}
  return bench2drive.Route(name, **arrays | labels)


class Shards:
  """Random access to the records; safe to share by threads."""

  def __init__(self, root):
    self._root = root
    self._manifest = read_manifest(root)
    self._routes = {r["name"]: r for r in self._manifest["routes"]}
    self._counts = {s["file"]: s["records"] for s in self._manifest["shards"]}
    self._lock = threading.Lock()
    self._open = functools.cache(self._open_shard)

  def record(self, name, frame):
    """Returns the decoded record {key: memoryview} of a frame.

    Raises:
      DataError: the shard is missing, cut short or damaged there.
    """
    route = self._routes[name]
    number = route["first"] + frame
    with self._lock:  # one reader a shard
      reader = self._open(route["shard"])
    try:
      (data,) = reader.read([number])
      return records.decode(data)
    except (RuntimeError, ValueError, IndexError) as error:
      raise errors.DataError(
          f"{os.path.join(self._root, route['shard'])} record {number} "
          f"({name} frame {frame}) is damaged ({error}); {REMEDY}") from None

  def pixels(self, name, frame, cameras, size):
    """Decodes some images of one frame -> {camera: [S,S,3] uint8}.

    Raises:
      DataError: as in record(), or an image that cannot be decoded.
    """
    record, found = self.record(name, frame), {}
    for camera in cameras:
      try:
        found[camera] = images.decode(record[camera], size)
      except (KeyError, *images.UNREADABLE) as error:
        shard = os.path.join(self._root, self._routes[name]["shard"])
        raise errors.DataError(
            f"{shard}: {camera} of {name} frame {frame} is no readable image "
            f"({error}); {REMEDY}") from None
    return found

  def check_size(self, size):
    """Raises ConfigError unless the images were prepared at this side."""
    found = self._manifest["options"]["size"]
    if found != size:
      raise errors.ConfigError(
          f"{self._root} holds images of side {found}, the model takes "
          f"{size}; prepare with --size {size}, or set model.image_size to "
          f"{found}")

  def _open_shard(self, file):
    path = os.path.join(self._root, file)
    try:
      reader = array_record_module.ArrayRecordReader(
          path, options="readahead_buffer_size:0")
    except (RuntimeError, OSError) as error:
      raise errors.DataError(
          f"{path} cannot be opened ({error}); {REMEDY}") from None
    # A file cut short opens as an empty one.
    if reader.num_records() != self._counts[file]:
      raise errors.DataError(
          f"{path} holds {reader.num_records()} records, the manifest counts "
          f"{self._counts[file]}: it was cut short; {REMEDY}")
    return reader
