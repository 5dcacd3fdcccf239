"""The pixels of samples: seven decoded images each, kept in memory if asked.

A file is decoded to the model's size once: the front image of one sample is
the earlier front image of the next. What is kept never changes a result.
Axis: S image side.
"""

import os

import numpy as np

from data_pipeline import images, spec


class FrameStore:
  """Decodes the images of windows.Windows samples; safe to share by threads."""

  def __init__(self, windows, image_size, ram_budget_gb):
    self._windows = windows
    self._size = image_size
    self._room = int(ram_budget_gb * 1e9) // (image_size * image_size * 3)
    self._kept = {}

  def sample(self, index):
    """Returns [7,S,S,3] uint8 in spec.IMAGES' order; a fresh array.

    Raises:
      DataError: one of the files is missing or broken.
    """
    route = int(self._windows.route_index[index])
    frame = int(self._windows.frame[index])
    return np.stack([
        self._image(route, folder, max(frame - lag, 0))
        for folder, lag in spec.IMAGES])

  def _image(self, route, folder, frame):
    key = route, folder, frame
    image = self._kept.get(key)
    if image is None:
      image = images.load(
          image_path(self._windows, route, folder, frame), self._size)
      # No eviction: epochs visit every file once, so the first kept are as
      # good as any.
      if len(self._kept) < self._room:
        self._kept[key] = image
    return image


def image_path(windows, route, folder, frame):
  """Path of one camera file; `route` counts in windows.routes."""
  return os.path.join(windows.root, windows.routes[route], "camera", folder,
                      f"{frame:05d}.jpg")
