"""Paired differences: signs, pairing, and an interval that covers."""

import numpy as np
import pytest

from drivemoe_jax.evaluators.ablation import paired


def side(shift, seeds=3, episodes=40, noise=0):
  rng = np.random.default_rng(noise)
  hard = np.random.default_rng(7).normal(60, 20, episodes)
  return {s: {e: float(hard[e] + shift + rng.normal()) for e in range(episodes)}
          for s in range(seeds)}


def test_a_constant_difference_is_found_without_doubt():
  one = side(0)
  other = {s: {e: x - 5.0 for e, x in row.items()} for s, row in one.items()}
  found = paired.difference(one, other)
  assert found["value"] == pytest.approx(5.0)
  assert found["low"] == pytest.approx(5.0) == found["high"]
  assert (found["seeds"], found["episodes"]) == (3, 40)


def test_exchanging_the_sides_turns_the_sign():
  one, other = side(3, noise=1), side(0, noise=2)
  a, b = paired.difference(one, other), paired.difference(other, one)
  assert a["value"] == pytest.approx(-b["value"])
  assert a["low"] == pytest.approx(-b["high"])


def test_only_common_seeds_and_episodes_count():
  one, other = side(1), side(0)
  one[9] = {e: 1e6 for e in range(40)}
  for row in one.values():
    row["lost"] = 1e6
  found = paired.difference(one, other)
  assert found["value"] < 10 and (found["seeds"], found["episodes"]) == (3, 40)
  assert paired.difference({0: {"a": 1.0}}, {1: {"a": 1.0}}) is None
  assert paired.difference({}, one) is None
  assert paired.difference({0: {"a": 1.0}}, {0: {"b": 1.0}}) is None


def test_seeds_that_disagree_widen_the_interval():
  other = side(0, noise=2)
  same = {s: {e: x + 4 for e, x in row.items()} for s, row in other.items()}
  apart = {s: {e: x + (0, 4, 8)[s] for e, x in row.items()}
           for s, row in other.items()}
  a, b = (paired.difference(x, other) for x in (same, apart))
  assert a["value"] == pytest.approx(b["value"])
  # Three seeds at 0, 4, 8: a draw takes the first thrice once in 27.
  assert b["low"] < 2.0 and b["high"] > 6.0


def test_a_larger_pool_of_episodes_narrows_it():
  width = lambda n: (lambda d: d["high"] - d["low"])(paired.difference(
      side(1, episodes=n, noise=1), side(0, episodes=n, noise=2)))
  assert width(400) < 0.6 * width(20)


def test_the_spread_of_one_seed_is_unknown():
  assert paired.spread([3.0]) == (3.0, None)
  assert paired.spread([1.0, 3.0]) == (2.0, pytest.approx(2 ** 0.5))
