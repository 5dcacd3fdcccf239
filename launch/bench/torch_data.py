"""The race's other side: a PyTorch DataLoader on raw 1600x900 JPEGs.

What a careful user of PyTorch writes: Pillow, torchvision's v2 transforms with
our augmentation's ranges, persistent workers. Axes: B samples, S image side.
"""

import numpy as np

from data_pipeline import frames, normalize, spec
from launch.bench import rows, sides


class Samples:
  """torch.utils.data.Dataset of windows: seven images and the numbers."""

  def __init__(self, work):
    from torchvision.transforms import v2
    self._windows = sides.windows(work, work.raw)
    statistics = normalize.compute(self._windows)
    self._numbers = {
        kind: normalize.apply(kind, getattr(self._windows, kind), statistics)
        for kind in normalize.COLUMNS}
    side = (work.image_size,) * 2
    self._transform = v2.Compose([
        v2.Resize(side), v2.PILToTensor(),  # antialiased: it is a Pillow image
        v2.RandomResizedCrop(side, scale=(0.8, 1.0), ratio=(0.9, 1.1),
                             antialias=False),
        v2.ColorJitter(0.1, 0.1, 0.1, 0.05)])

  def __len__(self):
    return len(self._windows)

  def __getitem__(self, index):
    import torch
    route = int(self._windows.route_index[index])
    frame = int(self._windows.frame[index])
    pixels = [self._image(route, folder, max(frame - lag, 0))
              for folder, lag in spec.IMAGES]
    return {"images": torch.stack(pixels), "sample_id": np.int64(index)} | {
        kind: array[index] for kind, array in self._numbers.items()}

  def _image(self, route, folder, frame):
    from PIL import Image
    path = frames.image_path(self._windows, route, folder, frame)
    with Image.open(path) as image:
      return self._transform(image.convert("RGB"))


def raw(work):
  """Times of the loader on raw routes [ms per batch]."""
  from torch.utils import data
  samples = Samples(work)
  # An epoch of a few routes would end all the time, and drain the workers.
  endless = data.RandomSampler(samples, replacement=True, num_samples=10**9)
  batches = data.DataLoader(
      samples, work.batch_size, sampler=endless, num_workers=work.workers,
      persistent_workers=True)
  return rows.time_blocks(iter(batches), warmup=sides.WARMUP,
                          blocks=work.blocks, per_block=work.batches)
