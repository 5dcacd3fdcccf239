"""The six pinhole cameras of Bench2Drive's rig.

Positions in the ego frame (metres; x forward, y right, z up), yaw in degrees,
positive to the right. Images are RGB.

Axes: N points. A camera frame is (depth forward, right, down).
"""

import dataclasses

import numpy as np

# name: (x, y, z, yaw, horizontal field of view)
RIG = {
    "rgb_front": (0.80, 0.0, 1.60, 0.0, 70.0),
    "rgb_front_left": (0.27, -0.55, 1.60, -55.0, 70.0),
    "rgb_front_right": (0.27, 0.55, 1.60, 55.0, 70.0),
    "rgb_back": (-2.0, 0.0, 1.60, 180.0, 110.0),
    "rgb_back_left": (-0.32, -0.55, 1.60, -110.0, 70.0),
    "rgb_back_right": (-0.32, 0.55, 1.60, 110.0, 70.0),
}
MOUNTS = np.array([mount[:3] for mount in RIG.values()])      # [6,3]
BEARINGS = np.radians([mount[3] for mount in RIG.values()])   # [6]


@dataclasses.dataclass(frozen=True)
class Camera:
  """One camera: where it sits and how it projects.

  Attributes:
    mount: x, y, z in the ego frame [m]. yaw: [rad].
    size: width, height [px]. focal: [px].
  """

  mount: tuple
  yaw: float
  size: tuple
  focal: float

  @property
  def centre(self):
    return self.size[0] / 2, self.size[1] / 2

  def pose(self, position, heading):
    """World position [3] and yaw of the camera of an ego standing at a pose."""
    cos, sin = np.cos(heading), np.sin(heading)
    x, y, z = self.mount
    return (np.array([position[0] + cos * x - sin * y,
                      position[1] + sin * x + cos * y, z]),
            heading + self.yaw)

  def project(self, points):
    """Camera-frame points [N,3] with depth > 0 -> pixels (u, v) [N,2]."""
    points = np.asarray(points, float)
    return points[:, 1:] / points[:, :1] * self.focal + self.centre


def rig(size):
  """{image folder name: Camera} for images of `size` (width, height)."""
  cameras = {}
  for name, (x, y, z, yaw, view) in RIG.items():
    focal = size[0] / 2 / np.tan(np.radians(view) / 2)
    cameras[name] = Camera((x, y, z), float(np.radians(yaw)), tuple(size),
                           float(focal))
  return cameras


def world_to_camera(points, position, yaw):
  """World points [...,3] -> camera frame (depth, right, down) [...,3]."""
  # Written out: BLAS may round differently with another number of threads.
  x, y, z = np.moveaxis(points - position, -1, 0)
  cos, sin = np.cos(yaw), np.sin(yaw)
  return np.stack([cos * x + sin * y, cos * y - sin * x, -z], -1)
