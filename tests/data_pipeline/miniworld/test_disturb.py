"""Disturbances do what they say, the same for the same scene."""

import numpy as np
import pytest

from data_pipeline import errors, spec
from data_pipeline.miniworld import disturb
from data_pipeline.miniworld import world as worlds


def frames(number):
  return {name: np.full((2, 2, 3), number, np.uint8)
          for name in spec.CAMERA_FOLDERS}


def seen(level, seed, count=1200):
  it = disturb.Disturbance("drops", level, seed)
  return [int(it.cameras(frames(i % 250))[disturb.FRONT][0, 0, 0])
          for i in range(count)]


def test_bursts_repeat_the_last_frame_for_as_long_as_they_say():
  for level, (share, length) in enumerate(disturb.LEVELS["drops"], 1):
    got = seen(level, 5)
    stale = [value != i % 250 for i, value in enumerate(got)]
    runs = "".join("x" if s else "." for s in stale).split(".")[:-1]
    lengths = [len(run) for run in runs if run]
    assert lengths and min(lengths) == length
    assert all(count % length == 0 for count in lengths)
    # Plans between bursts are 1 / share on average.
    assert np.mean(stale) == pytest.approx(
        length / (length + 1 / share), abs=0.1)
    for i, is_stale in enumerate(stale):
      if is_stale:
        assert got[i] == got[i - 1]


def test_missing_cameras_stay_the_same_ones_and_never_the_front():
  for level, count in enumerate(disturb.LEVELS["cameras"], 1):
    it = disturb.Disturbance("cameras", level, 7)
    gone = [{name for name, frame in it.cameras(frames(1)).items()
             if frame is None} for _ in range(3)]
    assert gone[0] == gone[1] == gone[2] and len(gone[0]) == count
    assert disturb.FRONT not in gone[0]


def test_noise_has_its_deviation():
  gps = disturb.Disturbance("gps", 2, 1)
  off = np.array([gps.gnss(np.array([5.0, -3.0])) for _ in range(2000)])
  np.testing.assert_allclose(off.mean(0), (5.0, -3.0), atol=0.1)
  np.testing.assert_allclose(off.std(0), 1.0, rtol=0.1)
  speed = disturb.Disturbance("speed", 3, 1)
  factors = np.array([speed.speed(10.0) for _ in range(2000)]) / 10
  assert factors.std() == pytest.approx(0.4, rel=0.1)


def test_latency_delays_by_its_ticks_and_brakes_before():
  it = disturb.Disturbance("latency", 2, 0)
  out = [it.control(worlds.Control(throttle=i / 10)) for i in range(10)]
  assert out[:4] == [worlds.Control(brake=1.0)] * 4
  assert [c.throttle for c in out[4:]] == [i / 10 for i in range(6)]


@pytest.mark.parametrize("kind", disturb.LEVELS)
def test_each_kind_leaves_the_rest_alone(kind):
  it = disturb.Disturbance(kind, 1, 3)
  position, control = np.array([1.0, 2.0]), worlds.Control(throttle=0.5)
  assert (kind == "gps") != np.array_equal(it.gnss(position), position)
  assert (kind == "speed") != (it.speed(4.0) == 4.0)
  assert (kind == "latency") != (it.control(control) == control)


def test_the_scene_decides_the_noise():
  assert seen(2, 11) == seen(2, 11) != seen(2, 12)


@pytest.mark.parametrize("kind, level", [("fog", 1), ("gps", 0), ("gps", 4)])
def test_unknown_ones_are_refused(kind, level):
  with pytest.raises(errors.ConfigError, match=f"{kind}-{level}"):
    disturb.check(kind, level)
