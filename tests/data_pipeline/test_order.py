"""Sample order: a pure function that deals every sample once an epoch."""

import numpy as np
import pytest

from data_pipeline import errors, loader, order


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
  np.testing.assert_array_equal(
      order.uniform(1, [2, 3], (200, 50)),
      [u, order.uniform(1, 3, (200, 50))])


# 60 samples of a common class, 30 of another, 10 of a rare one; no class 2.
LABELS = np.repeat([0, 1, 3], [60, 30, 10])


def deck(weights, epoch=0, seed=0, labels=LABELS):
  places = epoch * len(labels) + np.arange(len(labels))
  return order.ids_at(seed, places, len(labels), weights)


def test_balancing_deals_all_classes_equally_often():
  weights = order.balanced(LABELS)
  for epoch in range(5):
    times = np.bincount(LABELS[deck(weights, epoch)])
    assert times[2] == 0 and abs(times[[0, 1, 3]] - 100 / 3).max() <= 1
    # 100 / 3 / 10 times each of the rare ones, 100 / 3 / 60 of the common
    each = np.bincount(deck(weights, epoch), minlength=100)
    assert set(each[90:]) <= {3, 4} and set(each[:60]) <= {0, 1}


def test_half_strength_is_between():
  # Shares go as the root of 60, 30 and 10.
  root = np.sqrt([60, 30, 10])
  times = np.bincount(LABELS[deck(order.balanced(LABELS, 0.5))])[[0, 1, 3]]
  assert abs(times - 100 * root / root.sum()).max() <= 1


@pytest.mark.parametrize("samples", [3, 100, 4097])
def test_no_strength_changes_no_order(samples):
  labels = np.arange(samples) % 3
  for epoch in (0, 7):
    np.testing.assert_array_equal(
        deck(order.balanced(labels, 0.0), epoch, labels=labels),
        deck(None, epoch, labels=labels))


def test_a_balanced_order_is_a_function_of_seed_and_place():
  whole = deck(order.balanced(LABELS))
  again = order.balanced(LABELS)  # as after a restart
  part = [loader.sample_ids(0, step, 4, 100, again) for step in range(11, 25)]
  np.testing.assert_array_equal(np.concatenate(part), whole[44:])
  assert (deck(again, seed=1) != whole).any()
  assert (deck(again, epoch=1) != whole).any()


def test_every_sample_of_a_class_comes_up_as_often():
  weights = order.balanced(LABELS)
  counts = sum(np.bincount(deck(weights, epoch), minlength=100)
               for epoch in range(600))
  for label in (0, 1, 3):
    of_class = counts[LABELS == label]
    want = 600 * weights.expected[LABELS == label][0]
    assert abs(of_class / want - 1).max() < 0.25, label


def test_balancing_needs_labels_and_a_sane_strength():
  with pytest.raises(errors.ConfigError, match="needs skill labels"):
    order.balanced(None, 1.0)
  with pytest.raises(errors.ConfigError, match="strength 2"):
    order.balanced(LABELS, 2)


# Most plans go on as before; some surprise a little, one much.
SURPRISE = np.array([0.0] * 60 + [0.1] * 30 + [0.7] * 9 + [50.0])


def test_keyframes_come_up_as_often_as_they_surprise():
  weights = order.keyframes(SURPRISE, 2.0)
  mean = SURPRISE.mean()
  want = 1 + 2 * np.minimum(SURPRISE / mean, order.MOST_SURPRISE)
  np.testing.assert_allclose(weights.expected, 100 * want / want.sum())
  counts = sum(np.bincount(deck(weights, epoch), minlength=100)
               for epoch in range(400))
  assert counts[99] / counts[:60].mean() == pytest.approx(13.0, rel=0.1)


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf])
def test_keyframes_need_a_sane_strength(strength):
  with pytest.raises(errors.ConfigError, match=f"keyframes {strength}"):
    order.keyframes(SURPRISE, strength)


@pytest.mark.parametrize("surprise, strength", [(SURPRISE, 0.0),
                                                (np.zeros(100), 3.0)])
def test_without_surprise_or_strength_the_order_stays(surprise, strength):
  np.testing.assert_array_equal(deck(order.keyframes(surprise, strength)),
                                deck(None))


def test_keyframes_against_strength_are_a_mistake():
  with pytest.raises(errors.ConfigError, match="keyframes -1"):
    order.keyframes(SURPRISE, -1)


def test_weights_multiply():
  one, two = order.balanced(LABELS), order.keyframes(SURPRISE, 2.0)
  both = order.product([one, two]).expected
  assert both.sum() == pytest.approx(100)
  ratio = both / (one.expected * two.expected)
  np.testing.assert_allclose(ratio, ratio[0])
  np.testing.assert_array_equal(deck(order.product([one])), deck(one))
