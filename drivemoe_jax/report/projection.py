"""Where ground beside the car appears in each of the six cameras, and back.

Bench2Drive's rig, whose pinhole cameras the embedded world shares. Pictures
count as 1 wide and 1 high, so that any size of JPEG will do. Ego frame: x
forward, y right, the ground at z = 0.
"""

import functools

import numpy as np

from data_pipeline.miniworld import cameras

ASPECT = 900 / 1600
RIG = {"Front Left": "rgb_front_left", "Front": "rgb_front",
       "Front Right": "rgb_front_right", "Back Left": "rgb_back_left",
       "Back": "rgb_back", "Back Right": "rgb_back_right"}
NEAR = 0.3  # metres before the lens; nearer ground has no picture


def project(points, name):
  """Ground points into a camera's picture.

  Args:
    points: [...,2] metres (forward, right).
    name: a key of RIG.

  Returns:
    [...,2] (right, down): the picture is 0..1 on both axes; NaN for ground
    less than NEAR before the lens.
  """
  camera = _unit_rig()[RIG[name]]
  ground = np.concatenate([points, np.zeros((*np.shape(points)[:-1], 1))], -1)
  seen = cameras.world_to_camera(ground, camera.mount, camera.yaw)
  seen[seen[..., 0] < NEAR] = np.nan
  at = camera.project(seen.reshape(-1, 3)) / camera.size
  return at.reshape(np.shape(points))


@functools.cache
def _unit_rig():
  return cameras.rig((1.0, ASPECT))


@functools.lru_cache(maxsize=4)
def _ground_map(extent, pixels_per_metre):
  """For each ground cell the nearest camera that sees it, and where in it."""
  back, front, side = extent
  half = 0.5 / pixels_per_metre  # to the middle of a cell
  ahead = np.arange(front - half, back, -2 * half)
  across = np.arange(half - side, side, 2 * half)
  ground = np.stack(np.meshgrid(ahead, across, indexing="ij"), -1)
  best = np.full(ground.shape[:2], np.inf)
  owner = np.full(ground.shape[:2], -1)
  place = np.zeros(ground.shape)
  for index, name in enumerate(RIG):
    at = project(ground, name)
    inside = (at > 0).all(-1) & (at < 1).all(-1)
    mount = _unit_rig()[RIG[name]].mount[:2]
    distance = np.linalg.norm(ground - mount, axis=-1)
    nearer = inside & (distance < best)
    best[nearer], owner[nearer] = distance[nearer], index
    place[nearer] = at[nearer]
  return owner, place


def ground_view(pictures, extent, pixels_per_metre=12):
  """The ground around the car, pieced together from the six pictures.

  Args:
    pictures: {RIG name: uint8 [h,w,3]}.
    extent: (back, front, side) in metres: rows run from front to back,
      columns from -side (left) to +side.
    pixels_per_metre: resolution.

  Returns:
    uint8 [rows,columns,3]; white where no camera sees the ground. Things that
    stand up from the ground are smeared away from the car.
  """
  owner, place = _ground_map(tuple(extent), pixels_per_metre)
  view = np.full((*owner.shape, 3), 255, np.uint8)
  for index, name in enumerate(RIG):
    picture, mine = pictures[name], owner == index
    height, width = picture.shape[:2]
    column = (place[mine][:, 0] * width).astype(int)
    row = (place[mine][:, 1] * height).astype(int)
    view[mine] = picture[row, column]
  return view
