"""What a plan may ask for, each bound from both sides; holding and stopping."""

import numpy as np
import pytest

from data_pipeline import errors, safety

TIME = 0.1 * np.arange(10)


def straight(speed, gain=0.0, aside=0.0):
  """[10,2] m: at a speed, gaining `gain` m/s^2, pushed `aside` m/s^2."""
  return np.stack([speed * TIME + gain * TIME ** 2 / 2,
                   aside * TIME ** 2 / 2], -1)


def arc(speed, radius):
  angle = speed * TIME / radius
  return radius * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)


def why(plan, speed, first_row=0, **changes):
  found, = safety.implausible(plan[None], [speed], safety.limits(**changes),
                              first_row)
  return found


@pytest.mark.parametrize("plan, speed", [
    (straight(0.0), 0.0), (straight(8.0), 8.0), (straight(0.0), 20.0),
    (straight(8.0, -9.0)[:8], 8.0), (straight(2.0, 4.0), 2.0),
    (arc(8.0, 12.0), 8.0), (arc(8.0, 12.0) * (1, -1), 8.0),
    (arc(3.0, 5.5), 3.0), (straight(30.0, 0.0, 5.0), 30.0)])
def test_what_cars_do_is_believed(plan, speed):
  assert why(plan, speed) == ""
  rng = np.random.default_rng(0)
  for _ in range(20):  # with the noise of a model
    assert why(plan + rng.normal(0, 0.05, plan.shape), speed) == ""


def test_every_plan_of_a_batch_is_judged_by_itself():
  plans = np.stack([straight(8.0), straight(8.0) + (0, 3.0), straight(8.0)])
  found = safety.implausible(plans, [8.0, 8.0, 0.0])
  assert found[0] == "" and found[1] == "starts 3.0 m from the car, 1.0 at most"
  assert found[2].startswith("reaches")


# The bound at 0.9 s: 9.81 / 2 * 0.81 + 1 = 4.973 m off the road at its speed.
@pytest.mark.parametrize("plan, speed, word", [
    (straight(5.0) + (0, 0.9), 5.0, ""), (straight(5.0) + (0, 1.1), 5.0,
                                          "starts 1.1"),
    (straight(5.0, gain=12.0), 5.0, ""),           # 4.86 m ahead
    (straight(5.0, gain=12.5), 5.0, "reaches 5.1"),
    (straight(20.0, aside=12.0), 20.0, ""),
    (straight(20.0, aside=12.5), 20.0, "reaches 5.1"),
    (straight(-1.1), 0.0, ""), (straight(-1.2), 0.0, "backs 1.1"),
    (straight(-2.4), -2.4, "")])
def test_bounds_of_start_reach_and_reverse(plan, speed, word):
  assert why(plan, speed).startswith(word) and bool(why(plan, speed)) == bool(
      word)


def test_no_car_turns_on_the_spot():
  # A circle of 2 m: after 4 m of way 2.83 m aside, 4^2 / 8 + 1 = 3 m allowed.
  assert why(arc(4.0 / 0.9, 2.0), 4.5) == ""
  sideways = straight(3.0)[:, ::-1]
  # 2.7 m aside after as much way, 2.7^2 / 8 + 1 = 1.9 m allowed.
  assert why(sideways, 3.0) == ("turns 2.7 m aside on too short a way, "
                                "1.9 at most")
  assert why(sideways, 3.0, turn_radius_m=1.0) == ""


@pytest.mark.parametrize("spike, word", [(0.49, ""), (0.51, "jumps 1.0")])
def test_rows_do_not_jump(spike, word):
  plan = straight(8.0)
  plan[5, 1] += spike
  assert why(plan, 8.0).startswith(word) and bool(why(plan, 8.0)) == bool(word)


def test_what_is_not_finite_is_never_believed():
  for value in (np.nan, np.inf, -np.inf):
    plan = straight(8.0)
    plan[3, 0] = value
    with np.errstate(invalid="ignore"):
      assert why(plan, 8.0)


def test_a_plan_may_leave_out_the_present():
  later = straight(30.0)[1:]            # begins 3 m ahead
  assert why(later, 30.0).startswith("starts")
  assert why(later, 30.0, first_row=1) == ""


@pytest.mark.parametrize("changes, text", [
    ({"hold": 1}, "unknown safety limits"), ({"hold_s": 0.41}, "0 to 0.4"),
    ({"hold_s": -0.1}, "hold_s is -0.1"), ({"slack_m": None}, "None"),
    ({"recover_plans": 0}, "1 to inf"), ({"recover_plans": 1.5}, "1.5"),
    ({"brake_first": 1.1}, "0 to 1"), ({"jump_m": float("nan")}, "nan"),
    ({"start_m": True}, "True")])
def test_limits_that_make_no_sense_are_refused(changes, text):
  with pytest.raises(errors.ConfigError, match=text):
    safety.limits(**changes)


def test_limits_at_their_ends_are_taken():
  assert safety.limits(hold_s=0.4, brake_first=1, recover_plans=1).hold_s == 0.4
  assert safety.limits() == safety.DEFAULTS


def guard(*events, **changes):
  """States after each event: good or bad, one a tick from 0."""
  made, states = safety.Guard(safety.limits(**changes)), []
  for tick, good in enumerate(events):
    if good:
      made.good()
    elif good is None:
      made.look(tick)
    else:
      made.bad(tick)
    states.append(made.state)
  return states


def test_the_guard_starts_drives_holds_stops_and_recovers():
  states = guard(0, 1, *[0] * 7, *[1] * 5)
  assert states == ["start", "drive", *["hold"] * 6, *["stop"] * 5, "drive"]


def test_one_good_plan_ends_a_hold_but_no_stop():
  assert guard(1, 0, 1) == ["drive", "hold", "drive"]
  assert guard(1, 0, None, None, hold_s=0.1) == ["drive", "hold", "hold",
                                                 "stop"]
  assert guard(1, 0, 1, 0, 1, 1, hold_s=0, recover_plans=2) == [
      "drive", "stop", "stop", "stop", "stop", "drive"]


def test_what_cannot_be_bridged_stops_at_once():
  made = safety.Guard()
  made.bad(0, at_once=True)
  assert made.state == "start"   # it brakes anyway
  made.good()
  made.bad(1, at_once=True)
  assert made.state == "stop"


def test_the_brake_grows_to_the_full():
  made = safety.Guard(safety.limits(brake_first=0.2, brake_ramp_s=0.2))
  made.good()
  made.bad(7, at_once=True)
  np.testing.assert_allclose([made.brake(t) for t in (7, 8, 9, 11, 99)],
                             [0.2, 0.4, 0.6, 1.0, 1.0])
  now = safety.Guard(safety.limits(brake_first=1.0, brake_ramp_s=0))
  assert now.brake(0) == 1.0
