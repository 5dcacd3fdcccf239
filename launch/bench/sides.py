"""The sides of the data benchmark that are ours; each runs in its process.

Also makes what they read: routes of the embedded world at Bench2Drive's image
size, and their prepared form. Axes: B samples, S image side.
"""

import concurrent.futures
import dataclasses
import glob
import itertools
import os

import numpy as np

from data_pipeline import (
    bench2drive,
    frames,
    images,
    loader,
    normalize,
    order,
    prompt,
    spec,
    tf_cpu,
)
from data_pipeline import windows as windows_lib
from launch.bench import rows

SCENARIOS = ("ParkedObstacle", "TJunction")
FRAMES, SIZE, QUALITY = 60, (1600, 900), 20
WARMUP = 4      # batches
TEXT = dict(prompt_ids=prompt.OFFICIAL_IDS, text_len=20)


@dataclasses.dataclass(frozen=True)
class Work:
  """What a side is asked to do."""

  raw: str                     # folder of raw routes
  labels: str | None
  prepared: str                # the same routes, prepared
  batch_size: int
  image_size: int
  workers: int
  blocks: int                  # timed blocks
  batches: int                 # batches in a block


def record(out, workers, say):
  """Records routes into `out`, unless they are there."""
  from data_pipeline.miniworld import recorder
  say(f"bench: recording {len(SCENARIOS)} routes at {SIZE[0]}x{SIZE[1]}")
  recorder.record(out, SCENARIOS, seeds=range(1), val_seeds=(), size=SIZE,
                  quality=QUALITY, max_frames=FRAMES, workers=workers)


def prepare(work, say):
  """Prepares the raw routes, unless that is done."""
  from data_pipeline import prepare as preparation
  from data_pipeline import raw_routes
  preparation.prepare(
      raw_routes.RawRoutes(work.raw, work.labels), work.prepared,
      preparation.Options(size=work.image_size, horizons=(10,)), (),
      workers=work.workers, say=say)


def facts(work):
  """How much the sides read: {"windows", "bytes_per_raw_image"}."""
  files = glob.glob(os.path.join(
      glob.escape(work.raw), "*", "camera", spec.CAMERA_FOLDERS[0], "*.jpg"))
  return {"windows": len(windows(work, work.raw)),
          "bytes_per_raw_image": float(np.mean(list(map(
              os.path.getsize, files))))}


def windows(work, root):
  """Training windows of the raw or the prepared routes."""
  from data_pipeline import prepared
  if prepared.is_prepared(root):
    data = prepared.Prepared(root)
    return data.collect(data.names())
  return windows_lib.collect(root, work.labels, bench2drive.list_routes(root))


def batches(work, root):
  """The training loader over all routes of `root`."""
  data = windows(work, root)
  return loader.train_batches(
      data, normalize.compute(data), batch_size=work.batch_size, seed=0,
      image_size=work.image_size, workers=work.workers, ram_budget_gb=0.0,
      **TEXT)


def raw(work):
  """Times of the loader on raw routes [ms per batch]."""
  return _time(work, batches(work, work.raw))


def prepared(work):
  """Times of the loader on prepared shards [ms per batch]."""
  return _time(work, batches(work, work.prepared))


def bare_decode(work):
  """Floor of the raw routes: their images decoded and resized, no more."""
  data = windows(work, work.raw)

  def one(place):
    index = int(order.ids_at(0, [place], len(data))[0])
    route, t = int(data.route_index[index]), int(data.frame[index])
    for folder, lag in spec.IMAGES:
      images.load(frames.image_path(data, route, folder, max(t - lag, 0)),
                  work.image_size)

  with concurrent.futures.ThreadPoolExecutor(work.workers) as pool:
    places = (range(n * work.batch_size, (n + 1) * work.batch_size)
              for n in itertools.count())
    return _time(work, (list(pool.map(one, batch)) for batch in places))


def bare_augment(work):
  """Floor of the prepared shards: augmentation of what is in memory."""
  tf = tf_cpu.tensorflow()
  side, count = work.image_size, len(spec.IMAGES)
  pixels = np.random.default_rng(0).integers(
      0, 256, (count, side, side, 3), np.uint8)
  boxes, factors = images.augmentation(
      order.uniform(0, 0, (count, len(images.DRAWS))))
  options = tf.data.Options()
  options.autotune.enabled = False
  options.threading.max_intra_op_parallelism = 1
  options.threading.private_threadpool_size = work.workers
  data = tf.data.Dataset.from_tensors((pixels, boxes, factors)).repeat()
  data = data.map(images.augment, num_parallel_calls=work.workers)
  data = data.batch(work.batch_size).prefetch(2).with_options(options)
  return _time(work, data.as_numpy_iterator())


def _time(work, iterator):
  return rows.time_blocks(iterator, warmup=WARMUP, blocks=work.blocks,
                          per_block=work.batches)
