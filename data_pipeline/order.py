"""Which sample stands where, and its random numbers: pure functions.

Nothing is drawn from a stream: every number is a hash of (seed, purpose,
place), so any step can be computed by any host without the ones before it,
and no library release changes it. Axes: B samples of a batch, M of the set.
"""

import dataclasses
import functools

import numpy as np

from data_pipeline import errors

_ORDER, _UNIFORM, _PICK = 1, 2, 3
MOST_SURPRISE = 6.0  # times the mean; more counts as this


@dataclasses.dataclass(frozen=True, eq=False)  # two of them are never equal
class Weights:
  """How often samples are dealt in an epoch of M places.

  Attributes:
    expected: [M] float64, mean number of times, M in sum.
  """

  expected: np.ndarray


def balanced(labels, strength=1.0):
  """Weights by inverse class frequency.

  Args:
    labels: [M] int class of each sample, e.g. its skill.
    strength: 1 deals all classes equally often, 0 all samples; between, a
      class of n samples gets a share that grows with n ** (1 - strength).

  Raises:
    ConfigError: a strength outside 0 to 1, or no labels.
  """
  if not 0 <= strength <= 1:
    raise errors.ConfigError(
        f"balancing strength {strength}; give a number from 0 (as recorded) "
        "to 1 (all classes equally often)")
  if labels is None:
    raise errors.ConfigError(
        f"balancing strength {strength} needs skill labels, these samples "
        "have none; set it to 0 or give the labels")
  count = np.bincount(labels)[labels].astype(np.float64)       # [M]
  wanted = count ** -strength
  return Weights(wanted / wanted.sum() * len(labels))


def keyframes(surprise, strength=1.0):
  """Weights that grow with how little a sample's past tells of its plan.

  After keyframe-focused imitation (Wen et al., ICML 2021): who learns from
  driving, most of which goes on as before, learns to go on as before.

  Args:
    surprise: [M] what a copycat's plan is off, >= 0.
    strength: a sample of the mean surprise is dealt 1 + strength times as
      often as one of none.

  Raises:
    ConfigError: a strength that is negative or no number.
  """
  if not 0 <= strength < np.inf:
    raise errors.ConfigError(
        f"keyframes {strength}; give 0 (as recorded) or more, such as 3")
  mean = surprise.mean(dtype=np.float64) or 1.0
  wanted = 1 + strength * np.minimum(surprise / mean, MOST_SURPRISE)
  return Weights(wanted / wanted.sum() * len(surprise))


def product(weights):
  """Weights of samples to which all of several apply."""
  wanted = np.prod([w.expected for w in weights], axis=0)
  return Weights(wanted / wanted.sum() * len(wanted))


def sample_ids(seed, step, batch_size, num_samples, weights=None):
  """Returns the [B] int64 ids of global batch `step`.

  Samples are dealt from one shuffled deck after another, without a gap at the
  end of an epoch: each id is used once before any is used twice. With Weights
  each deck holds a sample of expectation e either floor(e) or ceil(e) times.
  """
  return ids_at(
      seed, step * batch_size + np.arange(batch_size, dtype=np.int64),
      num_samples, weights)


def ids_at(seed, places, num_samples, weights=None):
  """Ids at positions of the endless sample sequence: [B] -> [B] int64."""
  epochs, offsets = np.divmod(np.asarray(places, np.int64), num_samples)
  ids = np.empty_like(offsets)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    deck = _deck(seed, int(epoch), num_samples, weights)
    ids[here] = deck[offsets[here]]
  return ids


@functools.lru_cache(maxsize=4)
def _deck(seed, epoch, num_samples, weights):
  keys = _hash(seed, _ORDER, epoch, np.arange(num_samples))
  shuffle = np.argsort(keys, kind="stable")                    # [M]
  if weights is None:
    return shuffle
  # Systematic sampling: a comb of M teeth, one apart, over the samples laid
  # end to end. Its start is one of 1024 middles, clear of rounding, so that
  # equal weights deal the same decks as none.
  start = (float(_hash(seed, _PICK, epoch)[0] >> np.uint64(54)) + 0.5) / 1024
  ends = np.cumsum(weights.expected)
  picks = np.searchsorted(ends, np.arange(num_samples) + start, side="right")
  return np.minimum(picks, num_samples - 1)[shuffle]


def uniform(seed, place, shape):
  """Random numbers of the sample at `place`: float32 in [0, 1), `shape`.

  Of several places [...] at once: [..., *shape].
  """
  place = np.asarray(place)
  bits = _hash(seed, _UNIFORM, place[..., None], np.arange(np.prod(shape)))
  # 24 bits: what float32 holds exactly, so that 1.0 cannot come out
  return (bits >> np.uint64(40)).astype(np.float32).reshape(
      *place.shape, *shape) * np.float32(2.0**-24)


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
