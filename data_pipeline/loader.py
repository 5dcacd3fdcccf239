"""Batches: tf.data for training, plain threads for evaluation.

The global sample sequence is a pure function of (seed, step), so a run resumes
at any step and on any number of hosts with the same batches, bit for bit.
Axes: B samples of a batch, S image side, P history, H horizon.
"""

import collections
import concurrent.futures
import logging
import math
import os
import weakref

import numpy as np

from data_pipeline import (
  errors,
  frames,
  images,
  normalize,
  order,
  prompt,
  spec,
  tf_cpu,
)
from data_pipeline import windows as windows_lib

logger = logging.getLogger(__name__)

sample_ids = order.sample_ids
PREFETCH = 2  # batches ready and waiting, if the memory budget allows


def train_batches(windows, statistics, *, batch_size, seed, image_size,
                  prompt_ids, text_len, start_step=0, augment=True,
                  rows=None, tf_shared_seed=False, weights=None, views=None,
                  on_bad_record="fail", skip_cap=0.001, ram_budget_gb=1.0,
                  workers=None):
  """Returns an endless iterator of this host's rows of the global batches.

  Args:
    windows: windows.Windows of the training split.
    statistics: normalize.Statistics of the same horizon.
    batch_size: B of the global batch.
    seed: of sample order and augmentation.
    image_size: S.
    prompt_ids, text_len: see prompt.text_ids.
    start_step: the first batch to give.
    augment: crop and jitter (see images.augment).
    rows: [r] places in the global batch that are this host's; None is all.
    tf_shared_seed: draw the crop as the release does, from one number.
    weights: order.Weights, or None for each sample once an epoch.
    views: ids of the candidate views that will be looked at, or "label" for
      each sample's own; the others are not decoded and come black. None
      reads all.
    on_bad_record: "fail" stops at an unreadable image; "skip" puts the next
      readable sample (by id) in that place, so all other places keep theirs.
    skip_cap: share of the samples (rounded up) that may be unreadable.
    ram_budget_gb: for the batches on their way, and what is left of it for
      decoded images to keep; one batch ahead is always made.
    workers: threads, by default one per core.

  Returns:
    Iterator of {key: array [r, ...]} as in spec.BATCH_SPEC, without labels
    if the windows have none.

  Raises:
    DataError: statistics of another horizon; while iterating, bad records.
  """
  windows_lib.check_policy(on_bad_record)
  table = SampleTable(windows, statistics, prompt_ids, text_len)
  rows = np.arange(batch_size) if rows is None else rows
  count = len(rows)
  prefetch, kept_gb = share_memory(ram_budget_gb, count, image_size)
  source = _TrainSource(
      _pixels(windows, image_size, kept_gb, views), len(windows), seed,
      weights, tf_shared_seed, on_bad_record, skip_cap)
  return train_iterator(
      source, table, rows=count, first=start_step * count,
      places=lambda n: n // count * batch_size + rows[n % count],
      shape=(len(spec.IMAGES), image_size, image_size, 3), augment=augment,
      prefetch=prefetch, workers=workers or os.cpu_count())


def _pixels(windows, image_size, kept_gb, views):
  """sample id -> its images, decoded as far as `views` asks."""
  store = frames.FrameStore(windows, image_size, kept_gb)
  if views == "label":
    if windows.camera is None:
      raise errors.DataError(
          "views='label', but the windows have no camera labels; name "
          "data.labels_root or choose another camera_choice")
    return lambda index: store.sample(index, (windows.camera[index],))
  return lambda index: store.sample(index, views)


def share_memory(ram_budget_gb, rows, image_size):
  """Splits a memory budget: -> (batches to prefetch, GB of kept images).

  Beside the prefetched ones a batch is being filled and one is in use.
  """
  batch = rows * len(spec.IMAGES) * image_size**2 * 3 * 1e-9
  prefetch = min(max(int(ram_budget_gb / batch) - 2, 1), PREFETCH)
  return prefetch, max(ram_budget_gb - (prefetch + 2) * batch, 0.0)


class SampleTable:
  """The numbers of every sample, normalised once; rows by id."""

  def __init__(self, windows, statistics, prompt_ids, text_len):
    statistics.check_horizon(windows.horizon)
    scale = lambda kind: normalize.apply(
        kind, getattr(windows, kind), statistics)
    self._arrays = {kind: scale(kind) for kind in normalize.COLUMNS}
    for kind in ("camera", "skill"):
      if getattr(windows, kind) is not None:
        self._arrays[kind] = getattr(windows, kind)
    self._text = prompt.text_ids(prompt_ids, text_len)

  def rows(self, ids):
    """[B] int64 -> {key: [B, ...]}: a batch without images."""
    batch = {key: array[ids] for key, array in self._arrays.items()}
    batch["text"] = np.tile(self._text, (len(ids), 1))
    batch["sample_id"] = ids
    return batch


class _TrainSource:
  """Places [G] in the sample sequence -> pixels, augmentation, samples' ids."""

  def __init__(self, pixels, num_samples, seed, weights, shared_crop,
               on_bad_record, skip_cap):
    self._pixels = pixels
    self._weights = weights
    self._num_samples = num_samples
    self._seed = seed
    self._shared_crop = shared_crop
    self._skip = on_bad_record == "skip"
    self._allowed = min(math.ceil(skip_cap * num_samples), num_samples - 1)
    self._bad = set()

  def __call__(self, places):
    wanted = order.ids_at(
        self._seed, places, self._num_samples, self._weights)
    draws = order.uniform(
        self._seed, places, (len(spec.IMAGES), len(images.DRAWS)))
    pixels, ids = zip(*map(self._readable, wanted.tolist()))
    return (np.stack(pixels), *images.augmentation(
        draws, shared_crop=self._shared_crop), np.array(ids, np.int64))

  def _readable(self, index):
    """Pixels and id of a sample, or of the next one that can be read."""
    while True:
      try:
        return self._pixels(index), index
      except errors.DataError as error:
        if not self._skip:
          raise
        self._count(index, error)
        index = (index + 1) % self._num_samples

  def _count(self, index, error):
    if index not in self._bad:
      self._bad.add(index)
      logger.warning("replaced sample %d: %s", index, error)
    if len(self._bad) > self._allowed:
      raise errors.DataError(
          f"{len(self._bad)} unreadable samples so far, skip_cap allows "
          f"{self._allowed} of {self._num_samples}; last: {error}")


def train_iterator(source, table, *, rows, first, places, shape, augment,
                   prefetch, workers):
  """Runs `source` in tf.data threads and joins its pixels with the table.

  Args:
    source: places of samples [G] -> pixels [G,I,S,S,3] uint8, boxes and
      factors [G,I,4] float32 for `images.augment`, rows of the table [G].
    table: `rows(ids)` gives the other arrays of a batch.
    rows: samples a batch. first: number of the first sample. prefetch: batches.
    places: numbers [G] -> what `source` takes. shape: of a sample's pixels.
  """
  tf = tf_cpu.tensorflow()
  failures, group = {}, images.group(rows, math.prod(shape[:3]))

  def read(n):
    try:
      return source(places(n))
    except Exception as error:  # TensorFlow would hide its type
      failures[int(n[0])] = error
      nothing = np.zeros((group, shape[0], 4), np.float32)
      return (np.zeros((group, *shape), np.uint8), nothing, nothing,
              np.full(group, -1))

  def samples(n):                                        # [G]
    *parts, ids = tf.numpy_function(
        read, [n], [tf.uint8, tf.float32, tf.float32, tf.int64])
    pixels, boxes, factors = (
        tf.reshape(x, (group * shape[0], *rest))
        for x, rest in zip(parts, (shape[1:], (4,), (4,)), strict=True))
    if augment:
      pixels = images.augment(pixels, boxes, factors)
    return tf.reshape(pixels, (group, *shape)), tf.ensure_shape(ids, (group,))

  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.max_intra_op_parallelism = 1
  options.threading.private_threadpool_size = workers
  data = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
  data = data.batch(group).map(samples, num_parallel_calls=workers)
  data = data.batch(rows // group).prefetch(prefetch)

  def batches():
    while True:
      pixels, ids = next(threads[0])                     # [B/G,G,...]
      if ids.min() < 0:
        raise failures[min(failures)]
      yield {"images": pixels.reshape(rows, *shape),
             **table.rows(ids.reshape(rows))}

  threads = [data.with_options(options).as_numpy_iterator()]
  found = batches()
  # A program that ends while its loader works ahead would wait for ever: the
  # iterator's end waits for its threads, and those get no turn in a Python
  # that is being taken down. So it ends before that, if it is still there.
  weakref.finalize(found, threads.clear)
  return found


def eval_batches(windows, statistics, *, batch_size, image_size, prompt_ids,
                 text_len, indices=None, augment=False, seed=0,
                 tf_shared_seed=False, on_bad_record="fail",
                 ram_budget_gb=0.25, workers=None):
  """Returns an iterator over all samples in order, or over `indices`.

  The last batch is filled up with its last sample; such rows, and unreadable
  ones under on_bad_record="skip" (black images), are False in `valid`. Other
  arguments, errors: see train_batches.

  Args:
    augment: crop and jitter as in training, as the release does; a sample's
      draws depend on (seed, id) only.

  Returns:
    Iterator of {key: array [B, ...]} as in spec.BATCH_SPEC with `valid`.
  """
  windows_lib.check_policy(on_bad_record)
  table = SampleTable(windows, statistics, prompt_ids, text_len)
  store = frames.FrameStore(windows, image_size, ram_budget_gb)
  ids = np.arange(len(windows)) if indices is None else np.asarray(indices)
  ids = ids.astype(np.int64)
  black = np.zeros((len(spec.IMAGES), image_size, image_size, 3), np.uint8)

  def read(index):
    try:
      return store.sample(index), True
    except errors.DataError as error:
      if on_bad_record == "fail":
        raise
      logger.warning("left out sample %d: %s", index, error)
      return black, False

  def batches():
    with concurrent.futures.ThreadPoolExecutor(
        workers or os.cpu_count()) as pool:
      chunks = (ids[i:i + batch_size] for i in range(0, len(ids), batch_size))
      reads = ((chunk, [pool.submit(read, i) for i in chunk])
               for chunk in chunks)
      for chunk, futures in _ahead(reads):
        pixels, good = zip(*[f.result() for f in futures], strict=True)
        if augment:
          pixels = _augmented(pixels, chunk, seed, tf_shared_seed)
        # A short batch repeats its last sample.
        row = np.minimum(np.arange(batch_size), len(chunk) - 1)
        yield {"images": np.stack([pixels[i] for i in row]),
               **table.rows(chunk[row]),
               "valid": np.array(good)[row] & (np.arange(batch_size) == row)}

  return batches()


def _augmented(pixels, ids, seed, shared_crop):
  """[7,S,S,3] of samples, cropped and jittered by draws of their ids."""
  return [
      images.augment(image, *images.augmentation(
          order.uniform(seed, index, (len(image), len(images.DRAWS))),
          shared_crop=shared_crop)).numpy()
      for image, index in zip(pixels, ids, strict=True)]


def _ahead(items):
  """The same items, each asked for one before it is handed out."""
  waiting = collections.deque()
  for item in items:
    waiting.append(item)
    if len(waiting) > 1:
      yield waiting.popleft()
  yield from waiting
