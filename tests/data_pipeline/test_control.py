"""The controller: numbers worked out by hand, mirror symmetry, its caps."""

import math

import numpy as np
import pytest

from data_pipeline import control, errors


def straight(speed, rows=10):
  """A plan straight ahead at a constant speed [m/s]."""
  return np.stack([0.1 * speed * np.arange(rows), np.zeros(rows)], -1)


def arc(speed, radius, rows=10):
  """A plan around a bend to the right."""
  angle = 0.1 * speed / radius * np.arange(rows)
  return radius * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)


def test_a_step_by_hand():
  # 5 m/s for 0.7 s is 3.5 m, so 7 m/s are wanted; the error is 0.1 m/s.
  # 5 * 0.1 + 0.5 * 0.1 / 20 + 1 * 0.1 = 0.6025
  found = control.Controller().follow(straight(5.0), 6.9)
  assert found.throttle == pytest.approx(0.6025)
  assert found.steer == found.brake == 0.0


def test_steering_by_hand():
  # Wanted: 7 m * 2 = 14 m/s, so aim 8.5 m ahead: row 9 at (9, 1).
  plan = np.array([[j, j / 9.0] for j in range(10)])
  wanted = math.hypot(7, 7 / 9) * 2
  angle = math.degrees(math.atan2(1, 9)) / 90
  found = control.Controller().follow(plan, wanted)
  assert found.steer == pytest.approx(angle * (1.25 + 0.75 / 20 + 0.3))


def test_it_aims_at_the_first_waypoint_that_is_far_enough():
  bent = np.array([[j, 0.0] for j in range(7)] + [[7, -1], [8, 4], [8.5, 5]])
  far = bent.copy()
  far[:, 0] *= 0.5               # slower: never 5.5 m away, so the last counts
  for plan, speed, seen in ((bent, 5.0, bent[8]), (far, 2.0, far[9])):
    found = control.Controller().follow(plan, speed)
    angle = math.degrees(math.atan2(*seen[::-1])) / 90
    assert found.steer == pytest.approx(min(1.0, angle * 1.5875))


def test_left_is_right_mirrored():
  one, other = control.Controller(), control.Controller()
  for radius, speed in ((12.0, 3.0), (9.0, 4.0), (40.0, 6.0)):
    right, left = arc(4.0, radius), arc(4.0, radius) * (1, -1)
    a, b = one.follow(right, speed), other.follow(left, speed)
    assert a.steer > 0 and a == b._replace(steer=-b.steer)


def test_a_standing_car_does_not_steer():
  assert control.Controller().follow(arc(4.0, 9.0), 0.0).steer == 0.0


@pytest.mark.parametrize("plan, speed, overruled", [
    (straight(0.0), 3.0, 0),     # the plan itself stops
    (straight(2.0), 4.0, 1)])    # 2.8 m/s wanted: too fast by more than 10 %
def test_braking_lets_go_of_the_throttle(plan, speed, overruled):
  controller = control.Controller()
  found = controller.follow(plan, speed)
  assert (found.throttle, found.brake) == (0.0, 1.0)
  assert controller.overrides.counts["brake"] == overruled


@pytest.mark.parametrize("plan, speed", [
    (straight(6.0), 7.1), (arc(6.0, 12.0), 4.6)])
def test_caps_hold_the_speed_and_are_counted(plan, speed):
  capped, free = control.Controller(), control.Controller("drivemoe_uncapped")
  a, b = capped.follow(plan, speed), free.follow(plan, speed)
  assert a.throttle == 0.05 and b.throttle == 0.75
  assert a._replace(throttle=b.throttle) == b
  assert capped.overrides.summary()["rate"] == 1.0
  assert free.overrides.counts["speed_cap"] == 0
  below = control.Controller().follow(plan, speed - 0.2)
  assert below.throttle == 0.75


def test_full_lock_is_counted():
  controller = control.Controller()
  found = controller.follow(straight(4.0)[:, ::-1], 4.0)  # a right angle
  assert found.steer == 1.0
  assert controller.overrides.counts["steer_limit"] == 1


def test_the_rate_is_over_all_plans():
  controller = control.Controller()
  assert controller.overrides.summary()["rate"] is None
  for speed in (4.0, 7.2, 4.0, 4.0):
    controller.follow(straight(6.0), speed)
  assert controller.overrides.summary() == {
      "plans": 4, "overruled": 1, "rate": 0.25, "speed_cap": 1, "brake": 0,
      "steer_limit": 0}


def test_the_integral_is_the_mean_of_a_window():
  pid = control.Pid((0.0, 2.0, 0.0), window=4)
  assert [pid.step(1.0) for _ in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
  assert pid.step(-3.0) == 0.0


def test_the_derivative_is_the_last_difference():
  pid = control.Pid((0.0, 0.0, 3.0), window=4)
  assert [pid.step(e) for e in (1.0, 1.0, 0.5)] == [3.0, 0.0, -1.5]


def test_reset_forgets_errors_but_not_counts():
  controller, fresh = control.Controller(), control.Controller()
  for _ in range(3):
    controller.follow(arc(4.0, 9.0), 3.0)
  controller.reset()
  plan = straight(5.0)
  assert controller.follow(plan, 6.0) == fresh.follow(plan, 6.0)
  assert controller.overrides.plans == 4


@pytest.mark.parametrize("plan", [
    np.zeros((7, 2)), np.zeros((10, 3)), np.zeros((10, 2), int),
    np.full((10, 2), np.nan), "plan"])
def test_what_is_no_plan_is_refused(plan):
  with pytest.raises(errors.DataError, match="check the model's horizon"):
    control.Controller().follow(plan, 3.0)


def test_an_unknown_controller_is_named():
  with pytest.raises(errors.ConfigError, match="'pid'; known: drivemoe"):
    control.Controller("pid")
