"""The pixels of samples: seven decoded images each, kept in memory if asked.

They come from raw camera files or from prepared records, to the same bytes
where those are lossless. An image is decoded to the model's size once: the
front image of one sample is the earlier front image of the next. What is kept
never changes a result. Axis: S image side.
"""

import os

import numpy as np

from data_pipeline import images, prepared, spec


class FrameStore:
  """Decodes the images of windows.Windows samples; safe to share by threads."""

  def __init__(self, windows, image_size, ram_budget_gb):
    """Raises ConfigError for prepared images of another size."""
    self._windows = windows
    kind = Prepared if prepared.is_prepared(windows.root) else Raw
    self._source = kind(windows, image_size)
    self._size = image_size
    self._room = int(ram_budget_gb * 1e9) // (image_size * image_size * 3)
    self._kept = {}

  def sample(self, index, views=None):
    """Returns [7,S,S,3] uint8 in spec.IMAGES' order; a fresh array.

    Args:
      views: ids of the candidate views to read beside the fronts, the others
        stay black; None reads all.

    Raises:
      DataError: one of the files or records is missing or broken.
    """
    route = int(self._windows.route_index[index])
    frame = int(self._windows.frame[index])
    places = [i for i in range(len(spec.IMAGES))
              if views is None or i < spec.FRONTS or i - spec.FRONTS in views]
    wanted = [(max(frame - lag, 0), folder) for folder, lag in (
        spec.IMAGES[i] for i in places)]
    found = {key: self._kept.get((route, *key)) for key in wanted}
    for t in sorted({t for (t, _), image in found.items() if image is None}):
      missing = [folder for (at, folder), image in found.items()
                 if at == t and image is None]
      for folder, image in self._source.images(route, t, missing).items():
        found[t, folder] = image
        # No eviction: epochs visit every image once, so the first kept are
        # as good as any.
        if len(self._kept) < self._room:
          self._kept[route, t, folder] = image
    pixels = np.zeros((len(spec.IMAGES), self._size, self._size, 3), np.uint8)
    for i, key in zip(places, wanted):
      pixels[i] = found[key]  # pyright: ignore[reportCallIssue]
    return pixels


class Raw:
  """Camera files of a raw data folder."""

  def __init__(self, windows, image_size):
    self._windows, self._size = windows, image_size

  def images(self, route, frame, folders):
    """Returns {folder: [S,S,3]} of a frame; `route` counts in the windows'."""
    return {folder: images.load(
        image_path(self._windows, route, folder, frame), self._size)
        for folder in folders}


class Prepared:
  """Images in the records of a prepared folder; others stay encoded."""

  def __init__(self, windows, image_size):
    self._shards = prepared.Shards(windows.root)
    self._shards.check_size(image_size)
    self._names, self._size = windows.routes, image_size

  def images(self, route, frame, folders):
    """See Raw.images."""
    return self._shards.pixels(
        self._names[route], frame, folders, self._size)


def image_path(windows, route, folder, frame):
  """Path of one raw camera file; `route` counts in windows.routes."""
  return os.path.join(windows.root, windows.routes[route], "camera", folder,
                      f"{frame:05d}.jpg")
