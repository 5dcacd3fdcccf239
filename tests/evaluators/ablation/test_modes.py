"""The fork of the two-mode scene, and which plans lie between its ways."""

import numpy as np
import pytest

from data_pipeline import ticks
from drivemoe_jax.evaluators.ablation import modes


@pytest.fixture(scope="module")
def scene():
  return modes.scene(modes.seeds(1)[0])


def test_both_ways_begin_here_and_lead_apart(scene):
  left, right = scene["left"], scene["right"]
  assert left.shape == right.shape == (modes.ROWS, 2)
  np.testing.assert_allclose(left[0], 0, atol=1e-9)
  np.testing.assert_allclose(left[0], right[0], atol=1e-9)
  assert left[-1, 1] < -1.0 and right[-1, 1] > 1.0  # y grows to the right
  assert left[-1, 0] > 3.0 and scene["works"][0] > left[-1, 0]
  assert abs(scene["works"][1]) < 1.0


def test_the_observation_is_the_same_on_both_ways(scene):
  seen = modes.observe(scene["seed"], scene["tick"], 16, 90, (64, 36))
  assert seen["images"].shape == (7, 16, 16, 3)
  assert seen["images"].dtype == np.uint8 and seen["step"] == scene["tick"]
  assert seen["proprio"].shape == (len(ticks.PAST), 10)
  assert seen["proprio"][-1, 0] > 1.0  # it drives
  np.testing.assert_allclose(seen["proprio"][-1, 7], 0, atol=1e-6)
  ahead, right = seen["proprio"][-1, 8:]
  assert ahead > 5 and abs(right) < 3  # the route goes on straight
  # The front image of a tenth of a second before is another one.
  assert (seen["images"][0] != seen["images"][1]).any()


def test_where_drives_part():
  left = np.zeros((9, 3))
  left[:, 0] = np.arange(9)
  right = left.copy()
  right[5:, 1] += 0.5
  assert modes.fork(left, right) == 4
  assert modes.fork(left, left) is None


def plan(end):
  return np.stack([np.linspace(0, 5, 10), np.linspace(0, end, 10)], -1)


def test_shares_sum_to_one_and_mirror():
  left, right = plan(-1.5), plan(1.5)
  plans = np.stack([plan(y) for y in (-3, -1.5, -0.6, -0.2, 0.4, 1.4, 9)])
  shares = modes.shares(plans, left, right)
  assert shares == pytest.approx(
      {"left": 3 / 7, "between": 2 / 7, "right": 2 / 7})
  turned = modes.shares(plans * [1, -1], left, right)
  assert (turned["left"], turned["right"]) == (shares["right"], shares["left"])
  both = modes.shares(np.stack([left, right]), left, right)
  assert both["between"] == 0.0
  assert modes.shares(((left + right) / 2)[None], left, right)["between"] == 1


def test_a_longer_plan_is_judged_at_the_same_time():
  left, right = plan(-1.5), plan(1.5)
  longer = np.concatenate([plan(1.5), np.full((11, 2), -9.0)])[None]
  assert modes.shares(longer, left, right)["right"] == 1.0
