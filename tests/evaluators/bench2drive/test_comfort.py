"""Comfortness: the filter, the six bounds, segments, and broken logs."""

import json

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators.bench2drive import comfort
from tests.evaluators.bench2drive import drives


def motion(ticks, *, accel=(0.0, 0.0), yaw=0.0, heading=0.0):
  """A log: `accel` (world x, y) and `yaw` per tick or constant, fixed heading.
  """
  log = {
      "acceleration": np.zeros((ticks, 3)),
      "angular_velocity": np.zeros((ticks, 3)),
      "forward_vector": np.tile(
          [np.cos(heading), np.sin(heading), 0.0], (ticks, 1)),
      "right_vector": np.tile(
          [-np.sin(heading), np.cos(heading), 0.0], (ticks, 1))}
  log["acceleration"][:, 0], log["acceleration"][:, 1] = accel
  log["angular_velocity"][:, 2] = yaw
  return log


@pytest.mark.parametrize("length", [3, 4, 5, 6, 7, 8, 20])
def test_the_filter_reproduces_quadratics_and_their_slopes(length):
  time = np.arange(length) * comfort.DT
  values = 3 - 2 * time + 5 * time**2
  np.testing.assert_allclose(comfort.smooth(values), values, atol=1e-9)
  np.testing.assert_allclose(
      comfort.smooth(values, derivative=True), -2 + 10 * time, atol=1e-9)


@pytest.mark.parametrize("length", [3, 4, 5, 6, 7, 8, 20])
def test_the_filter_is_scipys(length):
  signal = pytest.importorskip("scipy.signal")
  values = np.random.default_rng(length).standard_normal(length)
  for derivative in (False, True):
    np.testing.assert_allclose(
        comfort.smooth(values, derivative),
        signal.savgol_filter(values, min(7, length), 2,
                             deriv=int(derivative), delta=comfort.DT),
        atol=1e-9)


@pytest.mark.parametrize("change, good", [
    (dict(accel=(2.39, 0)), True), (dict(accel=(2.41, 0)), False),
    (dict(accel=(-4.04, 0)), True), (dict(accel=(-4.06, 0)), False),
    (dict(accel=(0, 4.88)), True), (dict(accel=(0, -4.90)), False),
    (dict(yaw=0.94), True), (dict(yaw=-0.96), False),
    # Facing +y, world x is to the left: 4 m/s^2 there is lateral.
    (dict(accel=(4.0, 0), heading=np.pi / 2), True),
    (dict(accel=(0, 4.0), heading=np.pi / 2), False),
])
def test_each_constant_bound(change, good):
  assert comfort.comfortable(motion(20, **change)) is good


def test_bounds_are_strict(monkeypatch):
  monkeypatch.setitem(comfort.BOUNDS, "lon_accel", (0.0, 2.0))
  assert not comfort.comfortable(motion(20))
  assert comfort.comfortable(motion(20, accel=(1.0, 0)))


def test_jerk_along_the_lane_and_of_the_magnitude():
  time = np.arange(20) * 0.1
  # 4 m/s^3 from -4 to 3.6 would break the acceleration: stay within 0.5 s.
  for slope, good in ((4.0, True), (4.3, False)):
    ramp = slope * time[:6] - 1                          # -1 .. 1.15 m/s^2
    assert comfort.comfortable(
        motion(6, accel=(np.abs(ramp) * 0 + ramp, 0))) is good
  # Sideways only the magnitude's jerk counts: bound 8.37.
  for slope, good in ((8.2, True), (8.5, False)):
    ramp = 0.1 + slope * time[:6]                        # up to 4.35 m/s^2
    assert comfort.comfortable(motion(6, accel=(0, ramp))) is good


def test_officially_degrees_meet_bounds_in_radians():
  # A gentle curve of 5 deg/s = 0.087 rad/s. The official script sees "5":
  # constant, so no unwrapping, and above 0.95.
  curve = motion(20, yaw=5.0)
  assert not comfort.comfortable(curve)
  assert comfort.comfortable(curve, fixed=True)
  # 60 deg/s = 1.05 rad/s is uncomfortable either way.
  assert not comfort.comfortable(motion(20, yaw=60.0), fixed=True)


def test_officially_the_rate_is_unwrapped_like_an_angle():
  # A jump by exactly 2 pi vanishes.
  rate = np.where(np.arange(20) < 10, 0.0, 2 * np.pi)
  assert comfort.comfortable(motion(20, yaw=rate))
  np.testing.assert_allclose(
      comfort.quantities(motion(20, yaw=rate))["yaw_rate"], 0, atol=1e-12)


def test_repaired_the_yaw_acceleration_is_one():
  # 100 deg/s^2 = 1.745 rad/s^2 < 1.93 < 120 deg/s^2 = 2.094 rad/s^2
  time = np.arange(6) * 0.1
  assert comfort.comfortable(motion(6, yaw=100 * time - 25), fixed=True)
  assert not comfort.comfortable(motion(6, yaw=120 * time - 30), fixed=True)


def test_segments_of_2_s_without_the_tail():
  accel = np.zeros(59)
  accel[22:30] = 10.0  # spoils the second of two; 40..58 is a tail of 19
  accel[45:] = 10.0
  assert comfort.route_share(motion(59, accel=(accel, 0))) == 0.5


def test_up_to_20_ticks_are_one_segment():
  assert comfort.route_share(motion(20)) == 1.0
  assert comfort.route_share(motion(3)) == 1.0
  assert comfort.route_share(motion(3, yaw=3.0)) == 0.0


@pytest.mark.parametrize("ticks", [0, 1, 2])
def test_fewer_than_3_ticks_have_no_comfort(ticks):
  assert comfort.route_share(motion(ticks)) is None


def test_a_nan_is_not_comfortable():
  log = motion(20)
  log["acceleration"][7, 0] = np.nan
  assert not comfort.comfortable(log)


def write(folder, number, log, stride=2):
  """metric_info.json of a route, as an agent writes it."""
  path = folder / f"r{number}"
  path.mkdir(exist_ok=True)
  ticks = {str(stride * t): {name: values[t].tolist()
                             for name, values in log.items()}
           for t in range(len(log["acceleration"]))}
  (path / "metric_info.json").write_text(json.dumps(ticks))


def test_a_run_is_the_mean_over_its_measured_routes(tmp_path):
  write(tmp_path, "1711", motion(30))
  write(tmp_path, "1773", motion(30, accel=(5.0, 0)), stride=1)
  write(tmp_path, "1790", motion(2))
  write(tmp_path, "1792", motion(0))
  rows = drives.parse(*(drives.entry(n) for n in
                        ("1711", "1773", "1790", "1792", "1825")))
  found = comfort.score(rows, str(tmp_path))
  assert found["comfort"] == 50.0
  assert found["routes"] == {"1711": 100.0, "1773": 0.0}
  assert found["unmeasured"] == ["1790", "1792", "1825"]
  assert found["uneven"] == ["1773"]


def test_no_log_at_all_is_no_number(tmp_path):
  found = comfort.score(drives.parse(drives.entry()), str(tmp_path))
  assert found["comfort"] is None and found["comfort_fixed"] is None


@pytest.mark.parametrize("content, match", [
    ("{", "no whole JSON"), ("[1]", "no object of ticks"),
    ('{"0": 3}', "tick 0 has no acceleration"),
    ('{"4": {"acceleration": [1, 2]}}', "tick 4 has no acceleration"),
    ('{"4": {"acceleration": [1, 2, null]}}', "tick 4 has no acceleration"),
    ('{"4": {"acceleration": [1, 2, 3]}}', "tick 4 has no angular_velocity"),
])
def test_a_broken_log_is_named(tmp_path, content, match):
  (tmp_path / "r1711").mkdir()
  (tmp_path / "r1711" / "metric_info.json").write_text(content)
  with pytest.raises(errors.DataError, match=f"r1711.*{match}"):
    comfort.score(drives.parse(drives.entry("1711")), str(tmp_path))
