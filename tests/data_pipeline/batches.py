"""Small batches of a folder of routes, for training and for evaluation."""

import itertools

import numpy as np

from data_pipeline import bench2drive, loader, normalize, windows

SIZE, BATCH = 12, 4
TEXT = dict(image_size=SIZE, prompt_ids=(2, 5, 7), text_len=6)


def collect(folder, **options):
  return windows.collect(str(folder), str(folder / "labels"),
                         bench2drive.list_routes(str(folder)), **options)


def train(data, steps, **options):
  statistics = normalize.compute(data)
  options = dict(batch_size=BATCH, seed=1) | TEXT | options
  return list(itertools.islice(
      loader.train_batches(data, statistics, **options), steps))


def evaluate(data, **options):
  return list(loader.eval_batches(
      data, normalize.compute(data), **dict(batch_size=BATCH) | TEXT | options))


def same(a, b):
  assert len(a) == len(b)
  for one, other in zip(a, b, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)
