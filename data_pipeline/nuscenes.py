"""nuScenes scenes as a records.Source: ten frames a second, without labels.

The tables are read as a stream, here and without the devkit (which pins
NumPy 1 and brings 27 packages): full sets have tables of gigabytes. Poses are
interpolated to 10 Hz; an image is the last one taken by then. docs/data.md
says what that means. Axes: K recorded poses, N frames of a route.
"""

import dataclasses
import functools
import hashlib
import json
import os

import numpy as np

from data_pipeline import (
    bench2drive,
    errors,
    images,
    nuscenes_tables,
    reading,
    writing,
)

STEP_US = 100_000              # between frames
OLDEST_US = 600_000            # a keyframe is 0.5 s old at most
GRAVITY = 9.81                 # m/s^2: Bench2Drive's sensor reads it too
NODE_EVERY_M, NODE_AHEAD_M = 50.0, 7.5  # route points as Bench2Drive's
REMEDY = "start the same command again to sort the tables anew"


@dataclasses.dataclass(frozen=True)
class NuScenes:
  """Scenes of which index() wrote what it takes; small, for it is pickled."""

  root: str                    # holds samples/ and sweeps/
  index: str                   # folder of one JSON file per scene

  def facts(self):
    return {"data": "nuScenes"}

  def names(self):
    return sorted(name.removesuffix(".json") for name in os.listdir(
        self.index) if name.endswith(".json"))

  def length(self, name):
    return len(self._scene(name).times)

  def version(self, name):
    data = reading.content(os.path.join(self.index, f"{name}.json"), REMEDY)
    return hashlib.sha256(data).hexdigest()[:16]

  def read(self, name):
    scene = self._scene(name)
    return make_route(name, scene.poses, scene.times)

  def pixels(self, name, camera, frame, size):
    scene = self._scene(name)
    taken, files = scene.cameras[camera]
    last = np.searchsorted(taken, scene.times[frame], "right") - 1
    age = scene.times[frame] - taken[last]
    if age > OLDEST_US:
      raise errors.DataError(
          f"{name}: the last image of {camera} by frame {frame} is "
          f"{age / 1e6:.1f} s old; leave the scene out or set "
          "on_bad_record=skip")
    return images.load(os.path.join(self.root, files[last]), size)

  def _scene(self, name):
    path = os.path.join(self.index, f"{name}.json")
    try:
      changed = os.stat(path).st_mtime_ns
    except OSError as error:
      raise errors.DataError(f"{path}: {error.strerror}; {REMEDY}") from None
    return _read_scene(path, changed)


@dataclasses.dataclass(frozen=True)
class _Scene:
  times: np.ndarray            # [N] us
  poses: np.ndarray            # [K,4] float64: us, x, y m, yaw rad
  cameras: dict                # folder -> ([I] us, [I] files)


@functools.lru_cache(maxsize=4)
def _read_scene(path, unused_changed):
  content = reading.json_file(path, REMEDY)
  why = nuscenes_tables.scene_fault(content)
  if why:
    raise errors.DataError(f"{path} is no scene: {why}; {REMEDY}")
  cameras = {folder: (np.array([t for t, _ in taken]), [f for _, f in taken])
             for folder, taken in content["cameras"].items()}
  poses = np.array(content["poses"], np.float64)
  # From when every camera has an image to when the first one has no more.
  start = max(taken[0] for taken, _ in cameras.values())
  stop = min(min(taken[-1] for taken, _ in cameras.values()), poses[-1, 0])
  times = np.arange(max(start, poses[0, 0]), stop + 1, STEP_US, np.int64)  # pyright: ignore[reportCallIssue]
  if len(times) < 2:
    raise errors.DataError(
        f"{path}: its cameras have less than 0.2 s in common; leave the scene "
        "out or set on_bad_record=skip")
  return _Scene(times, poses, cameras)


def index(root, version, folder, *, keyframes_only=False):
  """Sorts the tables by scene and writes one small file for each.

  Args:
    root: folder with samples/, sweeps/ and the tables.
    version: folder of the tables, such as v1.0-trainval.
    folder: to write into; made when absent.
    keyframes_only: take images of the 2 Hz keyframes alone, for a copy
      without sweeps/; otherwise all, at 12 Hz.

  Returns:
    NuScenes.

  Raises:
    DataError: a missing or broken table or folder.
  """
  tables = os.path.join(root, version)
  if not keyframes_only and not os.path.isdir(
      os.path.join(root, "sweeps", nuscenes_tables.POSE_CHANNEL)):
    raise errors.DataError(
        f"{root}/sweeps/{nuscenes_tables.POSE_CHANNEL}: no such folder; fetch "
        "the sweeps, or ask for --keyframes-only")
  scenes = nuscenes_tables.by_scene(tables, keyframes_only)
  os.makedirs(folder, exist_ok=True)
  for name, content in scenes.items():
    writing.put(os.path.join(folder, f"{name}.json"), json.dumps(content))
  for file in os.listdir(folder):  # of other tables, sorted here before
    if file.endswith(".json") and file.removesuffix(".json") not in scenes:
      os.remove(os.path.join(folder, file))
  return NuScenes(root, folder)


def make_route(name, poses, times):
  """Poses -> bench2drive.Route of N frames, mirrored to CARLA's axes.

  nuScenes has y to the left and yaw counter-clockwise; both change sign. Its
  ego frame is on the rear axle, which is kept. Speed and the two sensors come
  from the path; the route points lie on it, and straight on where it ends.

  Args:
    name: of the route.
    poses: [K,4] float64: time us, x, y m, yaw rad; K >= 2, times ascending.
    times: [N] int64 us of the frames.
  """
  clock = (poses[:, 0] - times[0]) / 1e6                       # [K] s
  at = (times - times[0]) / 1e6                                # [N] s
  position = interpolate(at, clock, poses[:, 1:3] * [1, -1])   # [N,2]
  heading = interpolate(at, clock, -np.unwrap(poses[:, 3])[:, None])[:, 0]
  slope = functools.partial(np.gradient, axis=0, edge_order=1)
  forward = np.stack([np.cos(heading), np.sin(heading)], -1)   # [N,2]
  speed = (slope(position, at) * forward).sum(-1)              # [N]
  turning = slope(heading, at)                                 # [N] rad/s
  zero = np.zeros_like(speed)
  return bench2drive.Route(
      name=name, position=position,
      heading=np.mod(heading + np.pi / 2, 2 * np.pi) - np.pi / 2,
      speed=speed,
      acceleration=np.stack([slope(speed, at), speed * turning,
                             zero + GRAVITY], -1),
      angular_velocity=np.stack([zero, zero, turning], -1),
      far_node=_far_nodes(position, heading), camera=None, skill=None)


def interpolate(at, clock, values):
  """Cubic Hermite through [K,D] values at [K] times -> [N,D] at [N] times."""
  slope = np.gradient(values, clock, axis=0,
                      edge_order=2 if len(clock) > 2 else 1)   # [K,D]
  left = np.clip(np.searchsorted(clock, at, "right") - 1, 0, len(clock) - 2)
  width = (clock[left + 1] - clock[left])[:, None]             # [N,1]
  u = (at - clock[left])[:, None] / width
  return (values[left] * (1 + 2 * u) * (1 - u) ** 2
          + values[left + 1] * u**2 * (3 - 2 * u)
          + slope[left] * width * u * (1 - u) ** 2
          - slope[left + 1] * width * u**2 * (1 - u))


def _far_nodes(position, heading):
  """[N,2], [N] -> [N,2]: of points NODE_EVERY_M apart on the path, the first
  one more than NODE_AHEAD_M ahead."""
  steps = np.linalg.norm(np.diff(position, axis=0), axis=-1)
  along = np.concatenate([[0.0], np.cumsum(steps)])            # [N] m
  # The path goes on straight, or its last node would tell where it stops.
  beyond = NODE_EVERY_M + NODE_AHEAD_M
  end = position[-1] + beyond * np.array(
      [np.cos(heading[-1]), np.sin(heading[-1])])
  path = np.concatenate([position, end[None]])
  metres = np.append(along, along[-1] + beyond)
  node = np.ceil((along + NODE_AHEAD_M) / NODE_EVERY_M) * NODE_EVERY_M
  return np.stack([np.interp(node, metres, path[:, i]) for i in (0, 1)], -1)
