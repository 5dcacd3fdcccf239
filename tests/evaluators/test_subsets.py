"""Which windows count as turning or braking, and the image exchange."""

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators import subsets


def test_a_turn_counts_to_either_side():
  degrees = np.deg2rad([[0.0, 5, 9.9], [0, 5, 10.1], [0, -8, -12],
                        [0, 11, 3], [0, -9, 8]])
  assert subsets.turns(degrees).tolist() == [False, True, True, True, False]
  np.testing.assert_allclose(
      np.rad2deg(subsets.heading_change(degrees)),
      [9.9, 10.1, -12, 11, -9], atol=1e-9)


@pytest.mark.parametrize("past, future, begins", [
    ([8.0, 8, 8], [8.0, 7.5, 6.5], True),
    ([8.0, 8, 8], [8.0, 7.8, 7.2], False),  # too gentle
    ([8.4, 8.2, 8], [8.0, 7, 6], False),  # brakes already, at 2 m/s^2
    ([8.1, 8.1, 8], [8.0, 7, 6], True),  # 0.5 m/s^2 is no braking
    ([0.0, 0, 0], [0.0, 0, 0], False),
    ([8.0, 8, 8], [8.0, 6.5, 8.5], True),  # lowest speed counts, not the last
    ([5.0, 6, 8], [8.0, 9, 10], False),
    ([8.0], [8.0, 7, 6], True),  # no history, no slope
])
def test_begins_to_brake(past, future, begins):
  got = subsets.begins_to_brake(np.array([past]), np.array([future]))
  assert got.tolist() == [begins]


def test_spread_covers_both_ends_without_repetition():
  ids = subsets.spread(100, 7)
  assert ids[0] == 0 and ids[-1] == 99 and len(set(ids.tolist())) == 7
  np.testing.assert_array_equal(subsets.spread(5, 9), np.arange(5))
  np.testing.assert_array_equal(subsets.spread(5), np.arange(5))


@pytest.mark.parametrize("sizes", [
    (5, 5), (1, 1), (40, 20, 20), (3, 30, 7, 20)])
def test_every_window_gets_the_images_of_another_route(sizes):
  route = np.repeat(np.arange(len(sizes)), sizes)
  for seed in range(5):
    order = subsets.cross_route_permutation(route, seed)
    assert sorted(order) == list(range(len(route)))
    assert (route[order] != route).all()
  np.testing.assert_array_equal(
      order, subsets.cross_route_permutation(route, 4))


@pytest.mark.parametrize("sizes", [(6, 5), (4,), ()])
def test_a_route_that_dominates_is_named(sizes):
  route = np.repeat(np.arange(len(sizes)), sizes)
  with pytest.raises(errors.DataError, match="cannot exchange images"):
    subsets.cross_route_permutation(route, 0)
