"""Simulator cameras to model inputs, by way of the JPEG that training saw.

Recorded images passed a JPEG encoder at quality 20, so live ones do, too.
Pillow only and Python 3.7's syntax: the CARLA agent runs this file. Pillow
releases Python's lock, so that cameras are prepared in parallel. Axes: S side.
"""

import concurrent.futures
import io

import numpy as np
from PIL import Image

JPEG_QUALITY = 20  # of Bench2Drive's recordings


def prepare(pixels, size, jpeg_order="bgr"):
  """One camera frame -> [S,S,3] uint8 RGB.

  Args:
    pixels: [height, width, 4] uint8 in the order blue, green, red, alpha.
    size: S.
    jpeg_order: "bgr" encodes true colours, as in the recordings; "rgb" hands
      red to the encoder as blue, which chroma subsampling does not forgive.

  Returns:
    What images.load gives for the recorded frame.
  """
  height, width = pixels.shape[:2]
  layout = "BGRX" if jpeg_order == "bgr" else "RGBX"
  image = Image.frombuffer("RGB", (width, height),
                           np.ascontiguousarray(pixels), "raw", layout, 0, 1)
  file = io.BytesIO()
  image.save(file, "JPEG", quality=JPEG_QUALITY)
  with Image.open(file) as decoded:
    image = decoded.resize((size, size), Image.Resampling.BILINEAR)
  pixels = np.asarray(image)
  return pixels if jpeg_order == "bgr" else pixels[..., ::-1]


class Preparer:
  """Prepares the cameras of a tick on a few threads."""

  def __init__(self, size, jpeg_order="bgr", threads=2):
    self._size, self._order = size, jpeg_order
    self._pool = concurrent.futures.ThreadPoolExecutor(threads)

  def __call__(self, frames):
    """[pixels, ...] -> [[S,S,3], ...] as prepare gives them."""
    return list(self._pool.map(
        lambda pixels: prepare(pixels, self._size, self._order), frames))

  def close(self):
    self._pool.shutdown()
