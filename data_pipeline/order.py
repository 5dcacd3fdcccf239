"""Which sample stands where, and its random numbers: pure functions.

Nothing is drawn from a stream: every number is a hash of (seed, purpose,
place), so any step can be computed by any host without the ones before it,
and no library release changes it. Axis: B samples.
"""

import functools

import numpy as np

_ORDER, _UNIFORM = 1, 2


def sample_ids(seed, step, batch_size, num_samples):
  """Returns the [B] int64 ids of global batch `step`.

  Samples are dealt from one shuffled deck after another, without a gap at the
  end of an epoch: each id is used once before any is used twice.
  """
  return ids_at(
      seed, step * batch_size + np.arange(batch_size, dtype=np.int64),
      num_samples)


def ids_at(seed, places, num_samples):
  """Ids at positions of the endless sample sequence: [B] -> [B] int64."""
  epochs, offsets = np.divmod(np.asarray(places, np.int64), num_samples)
  ids = np.empty_like(offsets)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    ids[here] = _deck(seed, int(epoch), num_samples)[offsets[here]]
  return ids


@functools.lru_cache(maxsize=4)
def _deck(seed, epoch, num_samples):
  keys = _hash(seed, _ORDER, epoch, np.arange(num_samples))
  return np.argsort(keys, kind="stable")


def uniform(seed, place, shape):
  """Random numbers of the sample at `place`: float32 in [0, 1), `shape`."""
  bits = _hash(seed, _UNIFORM, place, np.arange(np.prod(shape)))
  # 24 bits: what float32 holds exactly, so that 1.0 cannot come out
  return (bits >> np.uint64(40)).astype(np.float32).reshape(
      shape) * np.float32(2.0**-24)


def _hash(*words):
  """Hashes integers (arrays broadcast) to uint64 by chained SplitMix64."""
  state = np.zeros((1,), np.uint64)
  with np.errstate(over="ignore"):
    for word in words:
      # int64 first: NumPy refuses negative Python ints as uint64
      state = state ^ np.asarray(word, np.int64).astype(np.uint64)
      state = state + np.uint64(0x9E3779B97F4A7C15)
      state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
      state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
      state = state ^ (state >> np.uint64(31))
  return state
