"""The report that tells whether statistics fit recordings."""

import dataclasses
import math

import numpy as np
import pytest

from data_pipeline import errors, normalize, statistics_check, windows
from tests.data_pipeline.test_normalize import parts


@pytest.fixture(scope="module")
def pool():
  return normalize.Pool.of(windows.join(parts()))


def test_statistics_fit_their_own_data(pool):
  report = statistics_check.check(pool, pool.statistics())
  assert list(report["keys"]) == list(normalize.KEYS)
  assert not report["faults"]
  for key, found in report["keys"].items():
    assert found["count"] == len(pool.values[key]) and found["nan_share"] == 0
    # What percentiles 1 and 99 mean, to one element.
    most = 0.01 + 1 / found["count"]
    assert found["below"] <= most and found["above"] <= most, key
    assert found["min"] <= found["p01"] <= found["p99"] <= found["max"]
  assert "fur_x" in statistics_check.text(report)


def test_statistics_of_other_units_are_found(pool):
  right = pool.statistics()
  in_kmh = dataclasses.replace(
      right, p01=right.p01 | {"speed": right.p01["speed"] * 3.6},
      p99=right.p99 | {"speed": right.p99["speed"] / 3.6})
  report = statistics_check.check(pool, in_kmh)
  assert len(report["faults"]) == 1
  assert report["faults"][0].startswith("speed: ")
  want = np.mean((pool.values["speed"] < in_kmh.p01["speed"])
                 | (pool.values["speed"] > in_kmh.p99["speed"]))
  found = report["keys"]["speed"]
  assert math.isclose(found["below"] + found["above"], want)
  assert "FAULT: speed" in statistics_check.text(report)


def test_nan_share_and_constants_are_told(pool):
  speed = pool.values["speed"].copy()
  speed[:len(speed) // 4] = np.nan
  speed[-1] = np.inf
  values = pool.values | {"speed": speed,
                          "theta": np.full(7, 0.01, np.float32)}
  report = statistics_check.check(
      dataclasses.replace(pool, values=values), pool.statistics())
  share = (len(speed) // 4 + 1) / len(speed)
  assert math.isclose(report["keys"]["speed"]["nan_share"], share)
  assert report["keys"]["theta"]["constant"]
  assert report["keys"]["theta"]["std"] == 0
  assert [line.split(":")[0] for line in report["faults"]] == ["speed"]
  assert report["notes"][-1].startswith("theta: constant at 0.01")


def test_nothing_is_a_fault_and_has_no_mean(pool):
  nothing = dataclasses.replace(
      pool, values=pool.values | {"fur_x": np.zeros(0, np.float32)})
  report = statistics_check.check(nothing, pool.statistics())
  assert report["keys"]["fur_x"]["mean"] is None
  assert report["faults"][0].startswith("fur_x")
  statistics_check.text(report)


def test_what_was_constant_then_but_moves_now_is_noted(pool):
  widened = dataclasses.replace(pool.statistics(), widened=("fur_y",))
  report = statistics_check.check(pool, widened)
  assert report["notes"] == [
      "fur_y: was constant where the statistics come from"]


def test_another_horizon_is_refused(pool):
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 21"):
    statistics_check.check(normalize.Pool.of(parts(21)[0]), pool.statistics())
