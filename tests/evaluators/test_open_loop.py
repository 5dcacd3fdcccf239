"""Open-loop errors on trajectories whose errors are known by hand."""

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators import open_loop


def shifted(offsets, horizon):
  """A straight drive and copies of it that are off by `offsets` metres."""
  gt = np.zeros((len(offsets), horizon, 2))
  gt[..., 0] = 0.5 * np.arange(horizon)
  return gt + np.asarray(offsets)[:, None, None] * (0.6, 0.8), gt


def test_errors_of_a_known_triangle():
  pred, gt = shifted([0.0, 5.0], horizon=3)
  np.testing.assert_allclose(
      open_loop.step_errors(pred, gt), [[0, 0, 0], [5, 5, 5]])


def test_ade_leaves_the_present_out():
  gt = np.zeros((1, 3, 2))
  pred = np.array([[[100.0, 0], [3, 4], [0, 1]]])
  got = open_loop.summary(pred, gt)
  assert got["ade"] == 3.0 and got["fde"] == 1.0
  assert got["error_at"] == [100.0, 5.0, 1.0]
  assert got["error_mean_up_to"] == [100.0, 5.0, 3.0]


def test_avg_l2_takes_the_protocols_four_times():
  # UniAD-Base's published errors at 0.5, 1.0, 1.5, 2.0 s average to 0.7295.
  gt = np.zeros((2, 21, 2))
  pred = np.full((2, 21, 2), 99.0)
  pred[:, (5, 10, 15, 20)] = 0
  pred[:, (5, 10, 15, 20), 1] = 0.2468, 0.5228, 0.8797, 1.2687
  assert abs(open_loop.avg_l2(pred, gt) - 0.7295) < 1e-12


def test_the_protocol_reads_each_time_in_both_ways():
  gt = np.zeros((2, 21, 2))
  pred = np.full((2, 21, 2), 99.0)
  pred[:, (5, 10, 15, 20)] = 0
  pred[0, (5, 10, 15, 20), 1] = 1, 2, 3, 6
  pred[1, (5, 10, 15, 20), 0] = 3, 4, 5, 6
  got = open_loop.protocol(pred, gt)
  # At: (1 + 3) / 2, (2 + 4) / 2, (3 + 5) / 2, 6. Up to: 2, 5 / 2, 9 / 3, 15 / 4
  assert got == {"seconds": [0.5, 1.0, 1.5, 2.0], "at": [2, 3, 4, 6],
                 "mean_up_to": [2, 2.5, 3, 3.75]}
  whole = open_loop.summary(pred, gt)
  assert whole["protocol"] == got and whole["avg_l2"] == 3.75


def test_avg_l2_weighs_samples_equally():
  pred, gt = shifted([1.0, 2.0, 6.0], horizon=21)
  assert abs(open_loop.avg_l2(pred, gt) - 3.0) < 1e-12


@pytest.mark.parametrize("horizon, has, has_not", [
    (21, "avg_l2", "l2_1.9s_approx"), (30, "avg_l2", "l2_1.9s_approx"),
    (20, "l2_1.9s_approx", "avg_l2")])
def test_the_name_avg_l2_needs_index_20(horizon, has, has_not):
  got = open_loop.summary(*shifted([1.0], horizon))
  assert abs(got[has] - 1.0) < 1e-12 and has_not not in got
  assert ("protocol" in got) is (has == "avg_l2")


@pytest.mark.parametrize("horizon", [10, 19])
def test_a_short_horizon_has_neither_name(horizon):
  pred, gt = shifted([1.0], horizon)
  assert not {"avg_l2", "l2_1.9s_approx", "protocol"} & set(
      open_loop.summary(pred, gt))
  with pytest.raises(errors.ConfigError, match=f"20.*{horizon}.*horizon=21"):
    open_loop.avg_l2(pred, gt)


def test_at_horizon_20_the_last_time_stands_in():
  gt = np.zeros((1, 20, 2))
  pred = np.zeros((1, 20, 2))
  pred[0, (5, 10, 15, 19), 0] = 1, 2, 3, 6
  assert open_loop.summary(pred, gt)["l2_1.9s_approx"] == 3.0


def test_official_numbers_weigh_a_short_last_batch_as_much_as_any():
  # Batches of 2: {|d| 1, 1}, {3}. Means over x and y where only x is off.
  gt = np.zeros((3, 1, 2))
  pred = np.array([[[1.0, 0]], [[-1.0, 0]], [[3.0, 0]]])
  got = open_loop.official(pred, gt, pred / 10, gt, batch_size=2)
  assert got["official_l1"] == (0.5 + 1.5) / 2
  assert got["official_mse"] == (0.5 + 4.5) / 2
  whole = open_loop.official(pred, gt, pred / 10, gt, batch_size=3)
  assert abs(whole["official_l1"] - 5 / 6) < 1e-12


def test_official_accuracy_is_strict_and_needs_both_axes():
  gt = np.zeros((1, 4, 2))
  pred = np.array([[[0.0, 0.0], [0.25, 0.0], [0.0, -0.3], [0.1, 0.45]]])
  got = open_loop.official(pred, gt, pred, gt, 8)["official_accuracy"]
  assert got == {"0.05": 0.25, "0.1": 0.25, "0.2": 0.25, "0.3": 0.5, "0.5": 1.0}


def test_no_sample_gives_no_number():
  empty = np.zeros((0, 10, 2))
  assert open_loop.summary(empty, empty) is None
  assert open_loop.ade(empty, empty) is None
  assert open_loop.official(empty, empty, empty, empty, 4) is None


def test_shapes_must_agree():
  with pytest.raises(ValueError, match="samples, horizon, 2"):
    open_loop.step_errors(np.zeros((2, 10, 2)), np.zeros((2, 9, 2)))
