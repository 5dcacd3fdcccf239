"""The ground of one episode as a picture: one raster, 0.1 m a pixel.

Drawn once per episode and warped into each camera; the same polygons give the
mask that tells whether wheels stand on a road.

Axes: Y raster rows (world y), X raster columns (world x).
"""

import cv2
import numpy as np

RESOLUTION = 0.1  # [m/px]
SHIFT = 4         # fixed-point bits of OpenCV's polygon corners

COLOURS = {       # RGB
    "asphalt": (88, 89, 92),
    "parking": (104, 102, 100),
    "pavement": (158, 154, 148),
    "kerb": (196, 194, 190),
    "white": (232, 232, 228),
    "yellow": (222, 178, 44),
}


class Ground:
  """Raster of a town.

  Attributes:
    image: [Y,X,3] uint8 RGB.
    drivable: [Y,X] bool.
    origin: world x, y of the first pixel's corner [m].
  """

  def __init__(self, town, rng, soil=(112, 132, 84), tint=(0, 0, 0)):
    """Paints `town`.

    Args:
      rng: numpy Generator for the texture.
      soil: RGB beside the pavement. tint: RGB added to the asphalt.
    """
    x0, y0, x1, y1 = town.bounds
    self.origin = np.array([x0, y0])
    shape = (int(np.ceil((y1 - y0) / RESOLUTION)),
             int(np.ceil((x1 - x0) / RESOLUTION)))
    image = np.empty((*shape, 3), np.uint8)
    image[:] = soil
    for name, polygon in town.paint:
      colour = np.array(COLOURS[name], float)
      if name in ("asphalt", "parking"):
        colour = np.clip(colour + tint, 0, 255)
      cv2.fillPoly(image, [self._pixels(polygon)], colour.tolist(),
                   cv2.LINE_AA, SHIFT)
    self.image = _texture(image, rng)
    mask = np.zeros(shape, np.uint8)
    for polygon in town.drivable:
      cv2.fillPoly(mask, [self._pixels(polygon)], 1, cv2.LINE_8, SHIFT)
    self.drivable = mask.astype(bool)

  def _pixels(self, polygon):
    pixels = (polygon - self.origin) / RESOLUTION - 0.5    # [P,2]
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)

  def is_drivable(self, points):
    """[...,2] world points -> [...] bool."""
    x, y = np.moveaxis((points - self.origin) / RESOLUTION, -1, 0)
    rows, columns = self.drivable.shape
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    x = np.clip(x, 0, columns - 1).astype(int)
    y = np.clip(y, 0, rows - 1).astype(int)
    return inside & self.drivable[y, x]


def _texture(image, rng):
  """Adds fine grain and large soft patches: [Y,X,3] -> [Y,X,3]."""
  rows, columns = image.shape[:2]
  grain = rng.integers(0, 9, (rows, columns), dtype=np.uint8)
  patch = rng.integers(0, 30, (rows // 40 + 2, columns // 40 + 2),
                       dtype=np.uint8)
  patch = cv2.resize(patch, (columns, rows), interpolation=cv2.INTER_LINEAR)
  offset = cv2.merge([cv2.add(grain, patch)] * 3)
  return cv2.subtract(cv2.add(image, offset), (18, 18, 18, 0))  # pyright: ignore[reportCallIssue]
