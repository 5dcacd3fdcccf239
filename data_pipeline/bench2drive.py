"""Reads raw Bench2Drive routes, and refuses what is broken or misaligned.

A route folder holds anno/%05d.json.gz and six camera folders, 10 Hz; frames
are CARLA's: left-handed, x forward, y right, yaw clockwise from above.
Axes: N frames of a route.
"""

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import threading
from concurrent.futures import process
from multiprocessing import connection

import numpy as np

from data_pipeline import errors, frame_numbers, reading, schema, spec

OFFICIAL_VAL = os.path.join(
    os.path.dirname(__file__), "splits", "bench2drive_base_val.txt")
LABEL_FOLDERS = {"camera": ("camera_labels", spec.CAMERA_OF_LABEL),
                 "skill": ("scenario_labels", spec.SKILL_OF_LABEL)}


class MisalignedError(errors.DataError):
  """Labels that belong to other frames; never skipped, always fatal."""


@dataclasses.dataclass(frozen=True)
class Route:
  """The numbers of one route, every recorded frame of it."""

  name: str
  position: np.ndarray          # [N,2] m, world, origin of the ego vehicle
  heading: np.ndarray           # [N] rad, world yaw in [-pi/2, 3pi/2)
  speed: np.ndarray             # [N] m/s, forward
  acceleration: np.ndarray      # [N,3] m/s^2, body frame, with gravity
  angular_velocity: np.ndarray  # [N,3] rad/s, body frame
  far_node: np.ndarray          # [N,2] m, world, next sparse route point
  camera: np.ndarray | None     # [N] int32 spec.Camera, None if unlabelled
  skill: np.ndarray | None      # [N] int32 spec.Skill, None if unlabelled

  def __len__(self):
    return len(self.speed)


def list_routes(root):
  """Returns the sorted names of the route folders directly under `root`.

  Raises:
    DataError: no such folder, or none in it has an anno/ folder.
  """
  if not os.path.isdir(root):
    raise errors.DataError(
        f"{root}: no such folder; give the one that holds the route folders")
  names = sorted(
      name for name in os.listdir(root) if not name.startswith(".")
      and os.path.isdir(os.path.join(root, name, "anno")))
  if not names:
    raise errors.DataError(
        f"{root}: no route in it (a folder <Scenario>_<Town>_Route<id>_"
        "Weather<id> with anno/ and camera/); extract the archives here")
  return names


def parse_name(name):
  """Returns (scenario, town, route, weather), four parts of a folder name.

  Only the four parts are required: one published archive has its last part
  cut short ("..._Route523_Weathe").
  """
  parts = name.split("_")
  if len(parts) >= 4 and not schema.name(name):
    raise errors.DataError(
        f"route name {name!r} is no name of a folder; name it "
        "<Scenario>_<Town>_Route<id>_Weather<id>")
  if len(parts) < 4:
    raise errors.DataError(
        f"route name {name!r} has {len(parts)} of 4 parts; name it "
        "<Scenario>_<Town>_Route<id>_Weather<id>")
  return tuple(parts[:4])


def split(routes, *, val_list=None, val_fraction=None, seed=0):
  """Splits route names into (train, val), both in the given order.

  Args:
    routes: names.
    val_list: file with one validation route a line, e.g. OFFICIAL_VAL.
    val_fraction: without a list, the share of the routes to hold out, spread
      over the scenario types; which ones depends on (seed, names) only.

  Raises:
    ConfigError: both or neither way is given, or the share is not in (0, 1).
    DataError: no file, or it names none of the routes.
  """
  if (val_list is None) == (val_fraction is None):
    raise errors.ConfigError("give either val_list or val_fraction, not "
                             f"{val_list!r} and {val_fraction!r}")
  if val_list is not None:
    held_out = _listed(val_list, routes)
  else:
    if not 0 < val_fraction < 1:
      raise errors.ConfigError(
          f"val_fraction is {val_fraction}; give a share between 0 and 1")
    count = max(1, round(val_fraction * len(routes)))
    held_out = set(_spread(routes, seed)[:count])
  train = [name for name in routes if name not in held_out]
  return train, [name for name in routes if name in held_out]


def _listed(path, routes):
  """The names in a list file, some of which must be among `routes`."""
  listed = set(reading.words(
      path, "it must list the validation routes, one a line"))
  if not listed & set(routes):
    raise errors.DataError(
        f"{path} lists {len(listed)} routes, none of them among the "
        f"{len(routes)} found; give this data set's list or val_fraction")
  return listed


def _spread(routes, seed):
  """All names in a random order whose every beginning has all types in
  proportion: route number r of the n of a type stands at (r + draw) / n."""
  draw = lambda text: int.from_bytes(
      hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8]) / 2**64
  types, place = {}, {}
  for name in sorted(routes, key=draw):
    types.setdefault(name.split("_")[0], []).append(name)
  for kind, names in types.items():
    for rank, name in enumerate(names):
      place[name] = (rank + draw(f"type {kind}")) / len(names)
  return sorted(routes, key=place.__getitem__)


def read_route(root, name, labels_root=None, *, nan_heading="box"):
  """Reads and checks one route.

  Args:
    root: folder of the route folders.
    name: the route's folder.
    labels_root: folder of camera_labels/ and scenario_labels/; without one
      the route has no labels.
    nan_heading: where a frame without compass takes its heading from: "box"
      (the ego's bounding box) or "zero" (0, as the release does).

  Returns:
    Route with all N frames.

  Raises:
    DataError: a missing or broken file, naming it.
    MisalignedError: labels of another length than the route.
  """
  parse_name(name)
  folder = os.path.join(root, name)
  frames = _check_files(folder)
  rows = np.array([
      frame_numbers.read(
          os.path.join(folder, "anno", f"{t:05d}.json.gz"), nan_heading)
      for t in range(frames)], np.float64)                     # [N,12]
  labels = {kind: None for kind in LABEL_FOLDERS}
  if labels_root is not None:
    for kind, (label_folder, table) in LABEL_FOLDERS.items():
      path = os.path.join(labels_root, label_folder, f"{name}.json")
      labels[kind] = read_labels(path, frames, table)
  return Route(name, rows[:, 0:2], rows[:, 2], rows[:, 3], rows[:, 4:7],
               rows[:, 7:10], rows[:, 10:12], **labels)


def map_routes(function, names, *, workers=1):
  """Yields (name, function(name) or the DataError it raised), in order.

  JSON parsing holds Python's lock, so `workers` > 1 uses processes; they are
  spawned, for a fork of a process that runs JAX can hang.

  Raises:
    UserError: a process was killed.
  """
  if workers == 1:
    for name in names:
      yield name, _outcome(function, name)
    return
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(workers, context,
                                                _die_with_parent)
  try:
    futures = [pool.submit(_outcome, function, name) for name in names]
    for name, future in zip(names, futures, strict=True):
      yield name, future.result()
  except process.BrokenProcessPool:
    raise errors.UserError(
        "a worker process was killed, for lack of memory most likely; start "
        "the same command again with fewer workers") from None
  finally:
    pool.shutdown(cancel_futures=True)


def _die_with_parent():
  """A worker whose parent was killed would wait for work for ever."""
  parent = multiprocessing.parent_process()
  if parent:
    threading.Thread(
        target=lambda: (connection.wait([parent.sentinel]), os._exit(1)),
        daemon=True).start()


def _outcome(function, name):
  try:
    return function(name)
  except errors.DataError as error:
    return error


def _check_files(folder):
  """Returns N; every frame from 0 to N-1 must have all of its files."""
  frames = frame_numbers.count(os.path.join(folder, "anno"))
  for camera in spec.CAMERA_FOLDERS:
    frame_numbers.count(os.path.join(folder, "camera", camera), "jpg", frames)
  return frames


def read_labels(path, frames, table):
  """Reads a label file: {"0": string, ...}.

  Args:
    path: .../<kind>_labels/<route>.json.
    frames: N, of the route.
    table: {string: class id}, one of LABEL_FOLDERS.

  Returns:
    [N] int32 class ids.

  Raises:
    DataError: a file that cannot be read, or an unknown label.
    MisalignedError: labels of another length than the route.
  """
  if not os.path.exists(path):
    raise errors.DataError(
        f"{path} is missing: the route has no such labels; fetch or generate "
        "them, or leave the route out")
  labels = reading.json_file(path, "fetch or generate it again",
                             is_no="cannot be read")
  if not isinstance(labels, dict):
    raise errors.DataError(f"{path} is no object of labels; fetch or generate "
                           "it again")
  keys = list(map(str, range(frames)))
  if set(labels) != set(keys):
    raise MisalignedError(
        f"{path} labels {len(labels)} frames, the route has {frames} "
        f"(0 to {frames - 1}); they are of different recordings: fetch or "
        "generate the labels again")
  for t, key in enumerate(keys):
    if not isinstance(labels[key], str) or labels[key] not in table:
      raise errors.DataError(
          f"{path}: unknown label {labels[key]!r} at frame {t}; known: "
          f"{', '.join(table)}; correct the file")
  return np.array([table[labels[key]] for key in keys], np.int32)
