"""Turns a scene into six pictures on a CPU: no display, no graphics driver.

The ground raster is warped by one homography per camera; quads are culled,
clipped at the near plane, sorted by their object's distance and filled. Same
scene, same bytes. Colours are RGB.

Axes: C cameras, Q quads, 4 corners, H rows, W columns.
"""

import dataclasses

import cv2
import numpy as np

from data_pipeline.miniworld import cameras
from data_pipeline.miniworld import ground as grounds

cv2.setNumThreads(1)
NEAR = 0.12       # near plane [m]
FAR = 110.0       # nothing beyond is drawn [m]
SHIFT = 3         # fixed-point bits of corners


@dataclasses.dataclass(frozen=True)
class Look:
  """Light and air of one episode: RGB colours, fog density in 1/m."""

  zenith: tuple
  horizon: tuple
  fog: float
  light: float

  def veil(self, distance):
    """Share of the fog's colour at a distance [m]."""
    return 1.0 - np.exp(-self.fog * distance)


class Soup:
  """Many placed meshes as flat arrays.

  Attributes:
    quads [Q,4,3], colours [Q,3], normals [Q,3], group [Q] (index of the
    object a quad belongs to), anchors [G,2] (where objects are sorted by),
    radii [G] (reach of an object around its anchor).
  """

  def __init__(self, placed, colours, anchors):
    self.quads = (np.concatenate(placed) if placed
                  else np.zeros((0, 4, 3)))
    self.colours = (np.concatenate(colours) if colours
                    else np.zeros((0, 3)))
    self.anchors = np.array(anchors, float).reshape(-1, 2)
    self.group = np.repeat(np.arange(len(placed)), [len(p) for p in placed])
    self.radii = np.array([np.hypot(*(p[..., :2] - a).reshape(-1, 2).T).max()
                           for p, a in zip(placed, self.anchors)])
    edges = self.quads[:, 1] - self.quads[:, 0]
    self.normals = np.cross(edges, self.quads[:, 3] - self.quads[:, 0])

  def joined(self, other):
    both = object.__new__(Soup)
    for name in ("quads", "colours", "normals", "anchors", "radii"):
      setattr(both, name, np.concatenate(
          [getattr(self, name), getattr(other, name)]))
    both.group = np.concatenate([self.group, other.group + len(self.anchors)])
    return both


class Renderer:
  """Draws the views of one rig over one ground."""

  def __init__(self, ground, look, size):
    self._look = look
    self._rig = cameras.rig(size)
    self._focal = np.array([c.focal for c in self._rig.values()])   # [C]
    self._slope = size[0] / 2 / self._focal  # right over depth, at the edge
    self._centre = np.array(size) / 2
    self._ground = ground.image
    self._coarse = cv2.resize(ground.image, None, fx=0.4, fy=0.4,
                              interpolation=cv2.INTER_AREA)
    self._origin = ground.origin
    width, height = size
    self._sky = _gradient(look, width, height // 2)
    self._fog = np.empty((height // 2, width, 3), np.uint8)
    self._fog[:] = look.horizon
    self._veils = {name: self._ground_veil(camera)
                   for name, camera in self._rig.items()}

  def _ground_veil(self, camera):
    """Weights of ground and fog per pixel below the horizon, [H/2,W] each."""
    width, height = camera.size
    rows = np.arange(height // 2) + 0.5
    depth = camera.focal * camera.mount[2] / rows          # [H/2]
    columns = (np.arange(width) + 0.5 - width / 2) / camera.focal
    distance = depth[:, None] * np.hypot(1.0, columns)     # [H/2,W]
    veil = self._look.veil(distance).astype(np.float32)
    return (1 - veil) * np.float32(self._look.light), veil

  def images(self, soup, position, heading):
    """{name: RGB uint8 [H,W,3]} of the rig on an ego at a pose."""
    poses = [camera.pose(position, heading) for camera in self._rig.values()]
    faces = self._faces(soup, *map(np.array, zip(*poses)))
    return {name: self._view(camera, self._veils[name], pose, face)
            for (name, camera), pose, face in zip(
                self._rig.items(), poses, faces)}

  def _view(self, camera, veil, pose, faces):
    width, height = camera.size
    image = np.empty((height, width, 3), np.uint8)
    image[:height // 2] = self._sky
    image[height // 2:] = self._floor(camera, veil, *pose)
    for pixels, colour in faces:
      cv2.fillConvexPoly(image, pixels, colour, cv2.LINE_AA, SHIFT)
    return image

  def _floor(self, camera, veil, eye, yaw):
    """The ground below the horizon, fogged: [H/2,W,3]."""
    width, height = camera.size
    rows = height // 2
    # Where a pixel of the raster reads the finest detail that it can show.
    split = min(rows, int(camera.focal * eye[2] / 16.0))
    floor = np.empty((rows, width, 3), np.uint8)
    floor[:split] = self._warp(camera, eye, yaw, self._coarse, 0.4, 0, split)
    floor[split:] = self._warp(camera, eye, yaw, self._ground, 1.0, split,
                               rows)
    return cv2.blendLinear(floor, self._fog, *veil)

  def _warp(self, camera, eye, yaw, raster, scale, top, bottom):
    """Rows top..bottom below the horizon, read from a raster."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    focal, half = camera.focal, camera.size[0] / 2
    # Pixel (u, v) of the strip -> ray (forward f, right (u-c)) with the drop
    # (v + top) : ground point = eye + height / drop * (forward, right).
    pixel = np.array([[0, 0, focal], [1, 0, 0.5 - half],
                      [0, 1, top + 0.5]], float)
    world = np.array([
        [eye[2] * cos, -eye[2] * sin, eye[0] - self._origin[0]],
        [eye[2] * sin, eye[2] * cos, eye[1] - self._origin[1]],
        [0, 0, 1]])
    to_raster = np.diag([scale / grounds.RESOLUTION] * 2 + [1.0])
    to_raster[:2, 2] = -0.5
    homography = to_raster @ world @ pixel
    return cv2.warpPerspective(
        raster, homography, (camera.size[0], bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE)

  def _faces(self, soup, eyes, yaws):
    """What each camera sees, far to near: C lists of ([K,2] int32, RGB).

    All cameras at once: there are few quads, so that calls cost more than
    what they compute.

    Args:
      eyes [C,3], yaws [C]: where the cameras are.
    """
    away = np.hypot(*(soup.anchors - eyes[:, None, :2]).transpose(2, 0, 1))
    view, index = np.nonzero(self._near(soup, eyes, yaws)[:, soup.group])
    facing = np.einsum("qc,qc->q", soup.normals[index],
                       eyes[view] - soup.quads[index, 0]) > 0
    view, index = view[facing], index[facing]
    points = cameras.world_to_camera(
        soup.quads[index], eyes[view, None], yaws[view, None])      # [Q,4,3]
    depth, right = points[..., 0], points[..., 1]                   # [Q,4]
    edge = depth * self._slope[view, None]
    seen = ((depth.max(1) > NEAR)
            & ((right - edge).min(1) < 0) & ((-right - edge).min(1) < 0))
    view, index, points = view[seen], index[seen], points[seen]
    away = away[view, soup.group[index]]                            # [Q]
    order = np.lexsort((-away, view))  # stable
    view, index, away = view[order], index[order], away[order]
    points = points[order]
    veil = self._look.veil(away)[:, None]
    colours = (soup.colours[index] * self._look.light * (1 - veil)
               + np.array(self._look.horizon) * veil)
    front = points.copy()
    front[..., 0] = np.maximum(front[..., 0], NEAR)
    polygons = list(_fixed(self._projected(front, view[:, None])))
    for i in np.flatnonzero(points[..., 0].min(1) <= NEAR):
      polygons[i] = _fixed(self._projected(clip_near(points[i]), view[i]))
    painted = list(zip(polygons, np.minimum(colours, 255).tolist()))
    ends = np.searchsorted(view, np.arange(len(eyes) + 1))
    return [painted[a:b] for a, b in zip(ends, ends[1:])]

  def _projected(self, points, view):
    """Camera-frame points [...,3] -> pixels [...,2] of the cameras `view`."""
    return (points[..., 1:] / points[..., :1] * self._focal[view][..., None]
            + self._centre)

  def _near(self, soup, eyes, yaws):
    """Objects that may reach into the views: [C,G] bool."""
    dx, dy = (soup.anchors - eyes[:, None, :2]).transpose(2, 0, 1)  # [C,G]
    cos, sin = np.cos(yaws)[:, None], np.sin(yaws)[:, None]
    depth = dx * cos + dy * sin
    right = dy * cos - dx * sin
    edge = depth * self._slope[:, None]
    slack = 2.0 * soup.radii
    return ((depth > -soup.radii) & (depth < FAR)
            & (np.abs(right) < np.maximum(edge, 0.0) + slack))


def _fixed(pixels):
  """Pixels with centres at +0.5 -> OpenCV's fixed point, kept in range."""
  return np.round((np.clip(pixels, -3e4, 3e4) - 0.5)
                  * (1 << SHIFT)).astype(np.int32)


def clip_near(corners):
  """Cuts a convex polygon [K,3] (depth first) at the near plane."""
  out = []
  for a, b in zip(corners, np.roll(corners, -1, axis=0)):
    if a[0] >= NEAR:
      out.append(a)
    if (a[0] >= NEAR) != (b[0] >= NEAR):
      out.append(a + (b - a) * ((NEAR - a[0]) / (b[0] - a[0])))
  return np.array(out)


def _gradient(look, width, rows):
  """Sky from zenith to horizon: [rows,W,3] uint8."""
  share = np.linspace(0.0, 1.0, rows)[:, None, None] ** 1.5
  sky = np.array(look.zenith) * (1 - share) + np.array(look.horizon) * share
  return np.broadcast_to(np.round(sky), (rows, width, 3)).astype(np.uint8)
