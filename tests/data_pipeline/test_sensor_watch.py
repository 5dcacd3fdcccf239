"""Sensors that repeat themselves: dead on a moving car, well on others."""

import math

import numpy as np
import pytest

from data_pipeline import safety, sensor_watch, ticks

LIMITS = safety.limits(frozen_s=0.5)  # ten ticks, five looks


def drive(count=40, speed=6.0, bend=0.0, gain=0.0, noise=0.0, seed=0):
  """[(ticks.Reading, ticks.Tick)] of a car whose sensors are well.

  Its GPS is noisy and its IMU exact, so that both ways to be well are there.
  """
  rng, found = np.random.default_rng(seed), []
  place, heading = np.zeros(2), 0.3
  for t in range(count):
    v = max(speed + gain * t * ticks.TICK_S, 0.0)
    heading += bend * v * ticks.TICK_S
    place = place + v * ticks.TICK_S * np.array([math.cos(heading),
                                                 math.sin(heading)])
    seen = place + rng.normal(0, noise, 2)
    imu = np.array([gain, 0.0, 9.8]), np.array([0.0, 0.0, bend * v])
    found.append((
        ticks.Reading(gps=seen / 1e5, compass=heading, speed=v,
                      acceleration=imu[0], angular_velocity=imu[1]),
        ticks.Tick(seen, heading, v, *imu, target=None)))
  return found


def frozen(way, start, *names):
  """The drive with sensors that stay at what they said at `start`."""
  first, kept = way[start]
  state = {n: getattr(kept, n) for n in names if n not in ("gps", "compass")}
  if "gps" in names:
    state["position"] = kept.position
  if "compass" in names:
    state["heading"] = kept.heading
  return way[:start] + [
      (reading._replace(**{n: getattr(first, n) for n in names}),
       tick._replace(**state)) for reading, tick in way[start:]]


IMU = ("acceleration", "angular_velocity", "compass")


def faults(way, limits=LIMITS):
  """[(tick, kind)] of what was found."""
  look, found = sensor_watch.Numbers(limits), []
  for t, (reading, tick) in enumerate(way):
    try:
      look.check(reading, tick)
    except ticks.Fault as fault:
      found.append((t, fault.kind))
  return found


@pytest.mark.parametrize("way", [
    dict(), dict(noise=0.56), dict(bend=0.1), dict(gain=-2.0, noise=0.56),
    dict(speed=0.0, noise=0.56), dict(gain=3.0), dict(speed=-2.0)])
def test_a_car_that_is_well_has_no_fault(way):
  assert not faults(drive(400 if way.get("noise") else 60, **way))
  still = drive(60, speed=0.0)
  assert not faults(frozen(still, 5, "gps", "speed", *IMU))


def test_a_gps_is_frozen_after_its_time_and_until_it_changes():
  way = frozen(drive(30), 10, "gps")
  assert faults(way)[0] == (20, "gps_frozen")
  assert not faults(way[:20])
  stopped = [(r._replace(speed=0.0), t._replace(speed=0.0))
             for r, t in way[21:]]
  # standing does not heal it
  assert faults(way[:21] + stopped) == [(t, "gps_frozen")
                                        for t in range(20, 30)]
  assert len(faults(way[:22] + drive(60)[40:])) == 2


def test_a_slow_car_s_gps_may_repeat_itself():
  assert not faults(frozen(drive(speed=1.0), 10, "gps"))
  assert faults(frozen(drive(speed=1.01), 10, "gps"))


def test_a_frozen_speed_is_told_by_gps():
  # Between the means of the first and the last 5 of 21 positions lie 0.8 s,
  # and 0.8 * 6 = 4.8 m by the speed.
  limits = safety.limits(frozen_s=1.0)
  for speed, kinds in ((6.0, []), (2.4, []), (2.1, ["speed_frozen"]),
                       (9.6, []), (9.9, ["speed_frozen"])):
    way = [(r._replace(speed=6.0), t._replace(speed=6.0))
           for r, t in drive(26, speed=speed)]
    assert sorted({kind for _, kind in faults(way, limits)}) == kinds


def test_a_frozen_imu_is_told_by_speed_or_by_the_course():
  limits = safety.limits(frozen_s=1.0)
  braking = frozen(drive(30), 5, *IMU)[:8] + [
      (r._replace(speed=t.speed - 0.1 * i), t._replace(speed=t.speed - 0.1 * i))
      for i, (r, t) in enumerate(frozen(drive(40), 5, *IMU)[8:])]
  assert faults(braking, limits)[0][1] == "imu_frozen"
  bends = frozen(drive(60, bend=0.15), 5, *IMU)
  assert faults(bends, limits)[0][1] == "imu_frozen"
  assert not faults(frozen(drive(60, bend=0.01), 5, *IMU), limits)


def test_what_is_missing_does_not_repeat_itself():
  for name in ("gps", "speed", "compass"):
    way = [(r._replace(**{name: None}), t) for r, t in drive(40)]
    assert not faults(way)


def test_the_past_can_be_dropped():
  look = sensor_watch.Numbers(LIMITS)
  way = frozen(drive(40), 5, "gps")
  for reading, tick in way[:15]:
    look.check(reading, tick)
  look.forget()
  for reading, tick in way[15:25]:
    look.check(reading, tick)
  with pytest.raises(ticks.Fault, match="gps repeats itself for 10 ticks"):
    look.check(*way[25])


def picture(seed, shape=(9, 16, 4)):
  return np.random.default_rng(seed).integers(60, 90, shape, np.uint8)


def looks(frames, speeds=None):
  """What is said of one camera, look after look."""
  made = sensor_watch.Pictures(LIMITS)
  speeds = speeds or [6.0] * len(frames)
  return [next(iter(made.look({"front": frame}, speed)), None)
          for frame, speed in zip(frames, speeds, strict=True)]


def test_a_picture_may_be_the_same_four_times_but_not_five():
  assert looks([picture(0)] * 5 + [picture(1)]) == [None] * 6
  assert looks([picture(0)] * 7 + [picture(1)]) == [None] * 5 + [
      "camera_frozen"] * 2 + [None]


def test_a_standing_car_sees_the_same_but_stops_trusting_nobody_by_that():
  same = [picture(0)] * 9
  assert looks(same, [1.0] * 9) == [None] * 9
  assert looks(same, [1.1] * 6 + [0.0] * 3)[5:] == ["camera_frozen"] * 4


@pytest.mark.parametrize("low, high, blank", [
    (0, 2, True), (0, 3, False), (253, 255, True), (252, 255, False),
    (100, 100, False), (0, 255, False)])
def test_black_and_white_show_nothing(low, high, blank):
  frame = np.full((9, 16, 4), low, np.uint8)
  frame[4, 7, 1] = high
  frame[..., 3] = 255            # alpha says nothing
  assert looks([frame]) == (["camera_blank"] if blank else [None])


def test_cameras_are_told_apart():
  made = sensor_watch.Pictures(LIMITS)
  for i in range(7):
    said = made.look({"left": picture(i), "right": picture(0)}, 6.0)
  assert said == {"camera_frozen": ["right"]}


def test_large_frames_are_looked_at_in_part():
  frames = [picture(0, (90, 1600, 4)) for _ in range(7)]
  for i, frame in enumerate(frames):
    frame[::4, ::4] += i           # what is looked at changes
  assert not any(looks(frames))


def test_the_clock_tells_next_stale_and_gap():
  clock = sensor_watch.Clock()
  assert [clock(t) for t in (
      5.0, 5.05, 5.05, 5.0, None, 5.0749, 5.0751, 5.15, 5.2251, math.nan,
      "x", 5.3, 5.4)] == [
          "next", "next", "stale", "stale", "next", "stale", "next", "next",
          "gap", "stale", "stale", "next", "gap"]
  clock.forget()
  assert clock(0.0) == "next"
