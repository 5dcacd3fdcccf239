"""Reads a prepared folder: its manifest, its numbers, its records.

The index holds the numbers of all frames, so that windows of any horizon are
cut without opening a shard. Axes: N frames of a route, S image side.
"""

import functools
import hashlib
import os
import threading

import numpy as np
from array_record.python import array_record_module

from data_pipeline import (
    bench2drive,
    errors,
    images,
    reading,
    records,
    schema,
    spec,
)
from data_pipeline import windows as windows_lib

FORMAT = 1
# What a manifest must hold; it may hold more.
SCHEMA = {
    "options": {"size": schema.count, "encoding": str},
    "source": schema.Each(lambda value: True),
    "skipped": schema.Each(str),
    "files": schema.Each({"bytes": schema.count, "sha256": str}),
    "shards": [{"file": schema.inside, "split": str, "records": schema.count,
                "bytes": schema.count, "sha256": str}],
    "routes": [{"name": schema.name, "split": str, "shard": schema.inside,
                "first": schema.count, "frames": schema.count, "sha256": str,
                "version": str}],
}
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
  manifest = reading.json_file(
      path, "launch.prepare writes it last, start it again to finish the "
      "folder", is_no="is no manifest", mend="prepare the folder again")
  why = schema.fault(manifest, {"format": int}, "the manifest")
  if not why and manifest["format"] != FORMAT:
    raise errors.DataError(
        f"{path} is of format {manifest['format']}, this program reads format "
        f"{FORMAT}; prepare the data again, or use the version that wrote it")
  why = why or schema.fault(manifest, SCHEMA, "the manifest")
  why = why or _fault_of_routes(manifest)
  if why:
    raise errors.DataError(
        f"{path} is no manifest ({why}); prepare the folder again")
  return manifest


def _fault_of_routes(manifest):
  """What does not fit together in a manifest of the right form, or None."""
  names = {route["name"] for route in manifest["routes"]}
  if len(names) != len(manifest["routes"]):
    return "a route is in it twice"
  files = {shard["file"]: shard["records"] for shard in manifest["shards"]}
  for route in manifest["routes"]:
    end = route["first"] + route["frames"]
    if end > files.get(route["shard"], -1):
      return (f"{route['name']} ends at record {end} of {route['shard']}, "
              f"which has {files.get(route['shard'], 'none')}")
    if route["split"] not in ("train", "val"):
      return f"{route['name']} is in {route['split']!r}"
  return next((f"the file {name!r} is elsewhere" for name in manifest["files"]
               if not schema.inside(name)), None)


def fault_of_arrays(arrays, frames):
  """What is wrong with {key: array} of records.NUMBERS and LABELS, or None."""
  for key, field in (records.NUMBERS | records.LABELS).items():
    found, want = arrays[key], (frames, *field.shape)
    if found.shape[:1] != (frames,):
      return (f"{len(found) if found.shape else 0} rows of {key} for {frames} "
              "frames")
    if found.shape != want or found.dtype != np.dtype(field.dtype):
      return f"{key} is {found.dtype} {found.shape}, want {field.dtype} {want}"
    if key in records.NUMBERS and not np.isfinite(found).all():
      return f"{key} is not finite"
  for key, classes in (("camera", spec.Camera), ("skill", spec.Skill)):
    ids = arrays[key]
    if len(ids) and not (records.UNLABELLED <= ids.min()
                         and ids.max() < len(classes)):
      return f"{key} has labels from {ids.min()} to {ids.max()}"
  return None


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
      arrays = reading.arrays(path, (*records.NUMBERS, *records.LABELS))
    except (OSError, ValueError) as error:
      raise errors.DataError(
          f"{path} cannot be read ({error}); prepare the folder again"
          ) from None
    why = fault_of_arrays(arrays, int(frames))
    if why:
      raise errors.DataError(f"{path}: {why}; prepare the folder again")
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
      return records.check(records.decode(data))
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
      except images.UNREADABLE as error:
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
