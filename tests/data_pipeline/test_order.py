"""Sample order: a pure function that deals every sample once an epoch."""

import numpy as np
import pytest

from data_pipeline import loader, order


@pytest.mark.parametrize("batch,samples", [(4, 12), (5, 12), (7, 3), (1, 1)])
def test_each_epoch_holds_every_sample_once(batch, samples):
  steps = 4 * samples
  ids = np.concatenate([
      loader.sample_ids(3, step, batch, samples) for step in range(steps)])
  assert ids.dtype == np.int64
  for epoch in ids[:len(ids) // samples * samples].reshape(-1, samples):
    assert sorted(epoch) == list(range(samples))


def test_depends_on_seed_and_epoch_only():
  deck = lambda seed, epoch: tuple(
      order.ids_at(seed, epoch * 100 + np.arange(100), 100))
  assert deck(0, 0) == deck(0, 0)
  assert len({deck(0, 0), deck(1, 0), deck(0, 1), deck(-1, 0)}) == 4
  assert deck(0, 0) != tuple(range(100))


def test_batch_size_does_not_change_the_sequence():
  long = loader.sample_ids(5, 1, 12, 50)
  short = [loader.sample_ids(5, step, 4, 50) for step in (3, 4, 5)]
  np.testing.assert_array_equal(long, np.concatenate(short))


def test_far_steps_need_no_earlier_ones():
  assert loader.sample_ids(0, 10**9, 8, 225_348).max() < 225_348


def test_order_is_frozen():
  # A change here would make old runs resume with other data.
  assert loader.sample_ids(0, 0, 8, 1000).tolist() == [
      883, 291, 826, 729, 903, 975, 689, 38]
  np.testing.assert_allclose(
      order.uniform(0, 0, (2, 2)),
      [[0.8050461, 0.1933149], [0.0468131, 0.4261872]], atol=1e-7)


def test_every_sample_is_as_likely_in_every_place():
  counts = np.zeros((5, 5))
  for seed in range(2000):
    counts[np.arange(5), order.ids_at(seed, np.arange(5), 5)] += 1
  # 400 expected, standard deviation 18
  assert abs(counts - 400).max() < 90


def test_uniform_numbers():
  u = order.uniform(1, 2, (200, 50))
  assert u.dtype == np.float32 and 0 <= u.min() and u.max() < 1
  assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.003
  assert abs(np.corrcoef(u.T)[np.triu_indices(50, 1)]).max() < 0.35
  for seed, place in ((1, 3), (2, 2)):
    assert (order.uniform(seed, place, (200, 50)) != u).mean() > 0.99
