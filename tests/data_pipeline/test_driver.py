"""The loop around a policy: when it asks, what it shows, when it brakes."""

import logging
import re

import numpy as np
import pytest

from data_pipeline import control, driver, errors, spec, ticks
from tests.data_pipeline import test_ticks as drive

SHAPE = (9, 16, 4)


def cameras(t):
  """Frames whose pixels tell the camera and the tick."""
  return {name: np.full(SHAPE, 10 * i + t % 10, np.uint8)
          for i, name in enumerate(spec.CAMERA_FOLDERS)}


class Policy:
  """Remembers what it was asked; answers straight ahead, or raises."""

  def __init__(self):
    self.asked, self.trouble = [], {}

  def __call__(self, observation):
    self.asked.append(observation)
    trouble = self.trouble.get(observation["step"])
    if isinstance(trouble, Exception):
      raise trouble
    plan = np.stack([0.7 * np.arange(10), np.zeros(10)], -1)
    return {"actions": plan.astype(np.float32)} if trouble is None else trouble


def run(last, *, bad=(), sight=(), trouble=(), choice=ticks.TRAINING):
  """Drives to tick `last`; returns (controls, Driver, Policy)."""
  policy = Policy()
  policy.trouble = dict(trouble)
  prepare = lambda frames: [frame[:4, :4, :3] for frame in frames]
  car = driver.Driver(
      ticks.Buffer(drive.GEO, drive.NODES, choice), control.Controller(),
      prepare, policy, frame_shape=SHAPE)
  controls = []
  for t in range(last + 1):
    seen = {**cameras(t), **dict(sight).get(t, {})}
    controls.append(car.step(drive.reading(t, **dict(bad).get(t, {})), seen))
  return controls, car, policy


def braking(controls):
  """Ticks of a full brake."""
  return [t for t, c in enumerate(controls) if c.brake == 1.0]


def test_it_plans_every_second_tick_and_holds_between():
  controls, _, policy = run(20)
  assert [o["step"] for o in policy.asked] == list(range(11, 21, 2))
  assert controls[:11] == [driver.STOP] * 11
  assert braking(controls) == list(range(11))
  for t in (11, 13, 15, 17, 19):
    assert controls[t + 1] == controls[t] and controls[t].throttle > 0


def test_it_shows_the_batch_contract_s_images():
  _, _, policy = run(14)
  for observation, t in zip(policy.asked, (11, 13), strict=True):
    assert observation["images"].shape == (7, 4, 4, 3)
    for image, (name, lag) in zip(observation["images"], spec.IMAGES,
                                  strict=True):
      assert (image == cameras(t - 2 * lag)[name][0, 0, 0]).all()
  np.testing.assert_array_equal(policy.asked[0]["proprio"],
                                drive.driven(11).proprio())
  assert policy.asked[0]["augment"] is False
  assert run(11, choice=ticks.OFFICIAL)[2].asked[0]["augment"] is True


@pytest.mark.parametrize("frame, text", [
    (None, "nothing"), (np.zeros((18, 32, 4), np.uint8), r"uint8\(18, 32, 4\)"),
    (np.zeros(SHAPE), "float64"), ("x", "str")])
def test_a_camera_without_a_usable_frame_is_braked_for(frame, text, caplog):
  with caplog.at_level(logging.WARNING):
    controls, car, policy = run(20, sight={15: {"rgb_back": frame}})
  assert braking(controls)[11:] == [15, 16]
  assert car.brakes == {"camera": 1}
  assert 15 not in [o["step"] for o in policy.asked]
  assert [r.getMessage()[:16] for r in caplog.records] == [
      "tick 15: braking", "tick 17: driving"]
  assert "rgb_back" in caplog.text and re.search(text, caplog.text)


def test_a_lost_front_image_is_missed_twice():
  controls, car, _ = run(20, sight={13: {"rgb_front": None}})
  assert braking(controls)[11:] == [13, 14, 15, 16]
  assert car.brakes["camera"] == 2


def test_frames_between_plans_are_not_looked_at():
  odd = {t: dict.fromkeys(spec.CAMERA_FOLDERS) for t in (0, 4, 8, 10, 12, 14)}
  assert run(20, sight=odd)[0] == run(20)[0]


@pytest.mark.parametrize("trouble, kind", [
    (ticks.Fault("server", "gone"), "server"),
    (errors.NumericsError("not finite"), "E-NAN"),
    ({"actions": np.zeros((3, 2))}, "E-DATA"),
    ({"actions": np.full((10, 2), np.nan)}, "E-DATA"),
    ({"plan": 1}, "server"), ([1, 2], "server")])
def test_a_policy_in_trouble_is_braked_for(trouble, kind):
  controls, car, _ = run(20, trouble={13: trouble, 15: trouble})
  assert braking(controls)[11:] == [13, 14, 15, 16]
  assert car.brakes[kind] == 2 and car.summary()["brakes"][kind] == 2
  assert controls[17].throttle > 0


def test_a_bug_is_not_hidden():
  with pytest.raises(ZeroDivisionError):
    run(13, trouble={13: ZeroDivisionError()})


def test_sensors_that_stay_away_are_braked_for_at_once():
  lost = {t: {"speed": None} for t in range(14, 40)}
  controls, car, policy = run(39, bad=lost)
  # 14 + 10 bridged, so tick 24 is the first without a speed
  assert braking(controls)[11:] == list(range(24, 40))
  assert policy.asked[-1]["step"] == 23
  assert car.brakes["speed"] == 16


def test_the_wheels_stay_turned_while_braking():
  bend = np.stack([0.5 * np.arange(10), 0.1 * np.arange(10)], -1)
  controls, _, _ = run(16, trouble={
      13: {"actions": bend}, 15: ticks.Fault("server", "gone")})
  assert controls[15] == control.Control(0.0, controls[13].steer, 1.0)
  assert controls[15].steer > 0


def test_after_a_brake_the_controller_begins_anew():
  bend = {"actions": np.stack([0.5 * np.arange(10), 0.1 * np.arange(10)], -1)}
  controls, _, _ = run(20, trouble={
      11: bend, 13: bend, 15: ticks.Fault("server", "gone"), 17: bend})
  assert controls[17].steer == controls[11].steer != controls[13].steer


def test_the_summary_tells_the_drive():
  found = run(20)[1].summary()
  assert found["ticks"] == 21 and found["overrides"]["plans"] == 5
  assert found["controller"]["name"] == "drivemoe"
  assert found["options"]["nav_plan"] == "sparse"
  assert set(found["preprocess_ms"]) == set(found["ask_ms"]) == {"p50", "p95"}
  assert found["brakes"] == {}
