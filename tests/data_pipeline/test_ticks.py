"""Live ticks become what training saw, and sensors that fall out are bridged.

A car is driven along a curve at 20 Hz with exact sensors; its training windows
come from every second tick of the same drive.
"""

import math

import numpy as np
import pytest

from data_pipeline import bench2drive, errors, navigation, ticks, windows

COUNT = 41
GEO = navigation.Georeference(35.25, -101.87)
HEADING = 1.2 + 0.02 * np.arange(COUNT)                           # [N]
SPEED = 6.0 + 0.05 * np.arange(COUNT)
FORWARD = np.stack([np.cos(HEADING), np.sin(HEADING)], -1)        # [N,2]
PLACE = np.cumsum(0.05 * SPEED[:, None] * FORWARD, 0) + (250.0, -40.0)
ACCELERATION = np.stack([SPEED / 10, -SPEED / 5, SPEED], -1)
TURNING = np.stack([SPEED / 30, SPEED / 40, SPEED / 50], -1)
NODES = PLACE[0] + 9.0 * np.arange(8)[:, None] * FORWARD[10]      # [8,2]


def reading(t, **changes):
  """What exact sensors say at tick t."""
  antenna = PLACE[t] + ticks.SENSOR_X * FORWARD[t]
  said = ticks.Reading(
      gps=np.array(GEO.to_gps(*antenna)), speed=SPEED[t],
      compass=(HEADING[t] + math.pi / 2) % (2 * math.pi),
      acceleration=ACCELERATION[t], angular_velocity=TURNING[t])
  return said._replace(**changes)


def driven(last, choice=ticks.TRAINING, bad=()):
  """A Buffer after tick `last`; bad: {tick: changes of its reading}."""
  buffer = ticks.Buffer(GEO, NODES, choice)
  for t in range(last + 1):
    buffer.add(reading(t, **dict(bad).get(t, {})))
  return buffer


def training_windows():
  planner = navigation.RoutePlanner(NODES)
  targets = np.array([planner.target(p) for p in PLACE])
  half = slice(None, None, 2)
  return windows.make_windows(bench2drive.Route(
      "a_b_c_d", PLACE[half], HEADING[half], SPEED[half], ACCELERATION[half],
      TURNING[half], targets[half], None, None), horizon=2)


def test_the_state_is_that_of_the_training_window():
  recorded = training_windows()
  for frame in (5, 8, 17):
    np.testing.assert_allclose(driven(2 * frame).proprio(),
                               recorded.proprio[frame], atol=2e-4)


def test_each_option_moves_what_it_names_and_nothing_else():
  t = 20
  usual = driven(t).proprio()
  columns = {"history_phase": set(range(8)), "lever_arm": {8},
             "nan_compass": set(), "jpeg_order": set(), "augment": set()}
  for name, moved in columns.items():
    other = getattr(ticks.OFFICIAL, name)
    found = driven(t, ticks.options(**{name: other})).proprio()
    # the mod of wrap() leaves rounding in an unchanged heading
    differs = set(np.flatnonzero(np.abs(found - usual).max(0) > 1e-5))
    assert differs == moved, name


def test_the_lever_arm_moves_the_origin_forward():
  behind = driven(20, ticks.options(lever_arm=False)).proprio()
  np.testing.assert_allclose(behind[-1, 8:] - driven(20).proprio()[-1, 8:],
                             (1.4, 0.0), atol=1e-4)


def test_a_shifted_past_is_a_tick_older_and_ends_before_now():
  found = driven(20, ticks.options(history_phase="shifted")).proprio()
  np.testing.assert_allclose(found[:, 0], SPEED[[11, 13, 15, 17, 19]])
  np.testing.assert_allclose(found[:, 7], -0.02 * np.arange(9, 0, -2),
                             atol=1e-6)


def test_one_switch_sets_all_six():
  assert ticks.options(official_parity=True) == ticks.OFFICIAL
  assert all(a != b for a, b in zip(ticks.OFFICIAL, ticks.TRAINING,
                                    strict=True))
  mixed = ticks.options(True, nav_plan="sparse")
  assert mixed == ticks.OFFICIAL._replace(nav_plan="sparse")


@pytest.mark.parametrize("changes, text", [
    ({"lever": True}, "unknown options"), ({"nav_plan": "near"}, "'near'"),
    ({"augment": 1}, "augment is 1"), ({"lever_arm": "no"}, "lever_arm")])
def test_options_that_do_not_exist_are_refused(changes, text):
  with pytest.raises(errors.ConfigError, match=text):
    ticks.options(**changes)


def test_a_lost_compass_is_held_or_taken_for_zero():
  lost = {20: {"compass": math.nan, "acceleration": np.full(3, math.nan)}}
  held = driven(20, bad=lost).proprio()
  assert held[-2, 7] == pytest.approx(-0.02, abs=1e-6)  # tick 19's heading
  np.testing.assert_allclose(held[-1, 1:4], ACCELERATION[19], rtol=1e-6)
  zero = driven(20, ticks.options(nan_compass="zero"), lost).proprio()
  assert zero[-1, 7] == 0
  assert zero[-2, 7] == pytest.approx(navigation.wrap(
      HEADING[18] + math.pi / 2), abs=1e-5)
  np.testing.assert_array_equal(zero[-1, 1:4], 0)


@pytest.mark.parametrize("changes", [
    {"gps": None}, {"gps": np.full(2, math.nan)}, {"gps": np.array([35.3, 0])},
    {"gps": np.array([90.0, 0.0])}, {"gps": "here"}])
def test_gps_that_falls_out_or_jumps_is_dead_reckoned(changes):
  found = driven(20, bad={t: changes for t in (15, 16, 17)}).proprio()
  np.testing.assert_allclose(found, driven(20).proprio(), atol=0.1)


@pytest.mark.parametrize("name, text", [
    ("speed", "speed is missing, not finite or too large: nan, for 11"),
    ("compass", "compass is missing"), ("gps", "gps is missing")])
def test_what_stays_away_is_a_fault_and_starts_anew(name, text):
  value = np.full(2, math.nan) if name == "gps" else math.nan
  buffer = driven(12)
  for t in range(13, 13 + ticks.HOLD_TICKS):
    buffer.add(reading(t, **{name: value}))
  with pytest.raises(ticks.Fault, match=text) as fault:
    buffer.add(reading(23, **{name: value}))
  assert fault.value.kind == name
  for t in range(24, 34):
    buffer.add(reading(t))
    with pytest.raises(ticks.Fault, match=f"{t - 23} of 11 ticks"):
      buffer.proprio()
  buffer.add(reading(34))
  np.testing.assert_allclose(buffer.proprio(), driven(34).proprio(), atol=1e-3)


def test_a_jump_that_stays_is_believed_in_the_end():
  far = GEO.to_world(*reading(0).gps) + (300.0, 0.0)
  moved = {"gps": np.array(GEO.to_gps(*far)), "speed": 0.0}
  buffer = driven(12)
  for t in range(13, 23):
    buffer.add(reading(t, **moved))
  with pytest.raises(ticks.Fault, match="gps jumped 29. m"):
    buffer.add(reading(23, **moved))
  for t in range(24, 35):
    buffer.add(reading(t, **moved))
  assert buffer.full


def test_the_first_reading_must_be_one():
  with pytest.raises(ticks.Fault, match="compass"):
    ticks.Buffer(GEO, NODES).add(reading(0, compass=math.nan))
