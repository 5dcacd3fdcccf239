"""The loop around a policy: when it asks, what it shows, when it stops."""

import itertools
import re

import numpy as np
import pytest

from data_pipeline import (
    control,
    driver,
    errors,
    navigation,
    safety,
    spec,
    ticks,
)
from tests.data_pipeline import test_ticks as drive

SHAPE = (9, 16, 4)


def cameras(t):
  """Frames whose pixels tell the camera and the tick."""
  return {name: np.full(SHAPE, 20 + 10 * i + t % 10, np.uint8)
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


class Follower(control.Controller):
  """Remembers the plans that it followed."""

  def __init__(self):
    super().__init__()
    self.plans = []

  def follow(self, plan, speed):
    self.plans.append(plan)
    return super().follow(plan, speed)


def run(last, *, bad=(), sight=(), trouble=(), choice=ticks.TRAINING,
        times=None, limits=safety.DEFAULTS, policy=None, **kw):
  """Drives to tick `last`; returns (controls, Driver, Policy)."""
  policy = policy or Policy()
  policy.trouble = dict(trouble)
  prepare = lambda frames: [frame[:4, :4, :3] for frame in frames]
  car = driver.Driver(
      ticks.Buffer(drive.GEO, drive.NODES, choice), Follower(),
      prepare, policy, frame_shape=SHAPE, limits=limits, **kw)
  controls = []
  for t in range(last + 1):
    seen = {**cameras(t), **dict(sight).get(t, {})}
    said = drive.reading(t, **dict(bad).get(t, {}))
    controls.append(car.step(said, seen, *([] if times is None
                                           else [times[t]])))
  return controls, car, policy


def braking(controls):
  """Ticks of a brake after the start."""
  return [t for t, c in enumerate(controls) if c.brake > 0 and t > 10]


LOST = {"rgb_back": None}
GONE = ticks.Fault("server", "gone")


def at(ticks_of, value):
  return dict.fromkeys(ticks_of, value)


def test_it_plans_every_second_tick_and_holds_between():
  controls, _, policy = run(20)
  assert [o["step"] for o in policy.asked] == list(range(11, 21, 2))
  assert controls[:11] == [driver.STOP] * 11
  assert braking(controls) == []
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
def test_a_camera_without_a_usable_frame_is_bridged(frame, text, caplog):
  controls, car, policy = run(20, sight={15: {"rgb_back": frame}})
  assert braking(controls) == [] and controls[15].throttle > 0
  assert car.faults == {"camera": 1}
  assert (car.held, car.stops) == (2, [])
  assert 15 not in [o["step"] for o in policy.asked]
  line, = [r.getMessage() for r in caplog.records]
  assert line.startswith("tick 15: the last plan goes on: cameras gave")
  assert "rgb_back" in line and re.search(text, line)


def test_a_lost_front_image_is_missed_twice():
  _, car, _ = run(20, sight={13: {"rgb_front": None}})
  assert car.faults["camera"] == 2 and car.held == 4


@pytest.mark.parametrize("hold_s, last, stop", [
    (0.3, 17, None), (0.3, 19, 19), (0.2, 15, None), (0.2, 17, 17),
    (0.25, 17, 18), (0.0, 13, 13)])
def test_the_last_plan_goes_on_for_so_long_and_no_longer(hold_s, last, stop):
  limits = safety.limits(hold_s=hold_s)
  controls, car, _ = run(last + 1, sight=at(range(13, last + 1, 2), LOST),
                         limits=limits)
  if stop is None:
    assert car.stops == [] and braking(controls) == []
    assert car.held == last + 2 - 13
  else:
    assert braking(controls)[0] == stop == car.stops[0]["tick"]
    assert car.stops[0]["kind"] == "camera" and car.held == stop - 13


def test_a_stop_brakes_more_and_more_and_keeps_the_wheels():
  bend = {"actions": np.stack([0.7 * np.arange(10), 0.05 * np.arange(10)], -1)}
  controls, car, _ = run(35, trouble={11: bend} | at(range(13, 36, 2), GONE))
  assert car.stops == [{"tick": 19, "kind": "server", "ticks": 17}]
  np.testing.assert_allclose(
      [c.brake for c in controls[19:]],
      [0.4 + 0.06 * i for i in range(10)] + [1.0] * 7)
  assert {c.steer for c in controls[18:]} == {controls[18].steer}
  assert controls[18].steer != 0
  assert all(c.throttle == 0 for c in controls[19:])


@pytest.mark.parametrize("again, resumed", [((), 29), ((29,), None),
                                            ((25,), 35), ((27,), 37)])
def test_a_stop_ends_after_good_plans_in_a_row(again, resumed, caplog):
  wrong = [*range(13, 20, 2), *again]
  controls, car, policy = run(39 if again else 30, trouble=at(wrong, GONE))
  if resumed is None:
    resumed = 39
  assert braking(controls) == list(range(19, resumed))
  assert car.stops[0]["ticks"] == resumed - 19 and len(car.stops) == 1
  assert {21, 23, 25} <= {o["step"] for o in policy.asked}
  assert f"tick {resumed}: driving" in caplog.text


def test_how_many_is_a_limit():
  wrong = at(range(13, 20, 2), GONE)
  one, _, _ = run(24, trouble=wrong, limits=safety.limits(recover_plans=1))
  assert braking(one) == [19, 20]


def test_a_bridged_plan_lies_where_it_lay():
  """What goes on is the old road, seen from where the car is by now."""
  def road(t):
    ahead = np.clip(t + 2 * np.arange(10), 0, drive.COUNT - 1)
    return navigation.to_ego(drive.PLACE[ahead], drive.PLACE[t],
                             drive.HEADING[t])

  _, car, _ = run(19, trouble={13: {"actions": road(13)}} | at(
      (15, 17, 19), GONE))
  plans = car._controller.plans
  assert [len(p) for p in plans] == [10] * 5
  for t, plan in zip((15, 17, 19), plans[2:], strict=True):
    known = 10 - (t - 13) // 2
    np.testing.assert_allclose(plan[:known], road(t)[:known], atol=1e-6)
    step = np.diff(plan[known - 2:], axis=0)
    np.testing.assert_allclose(step, step[:1].repeat(len(step), 0))


def test_frames_between_plans_are_not_looked_at():
  odd = {t: dict.fromkeys(spec.CAMERA_FOLDERS) for t in (0, 4, 8, 10, 12, 14)}
  assert run(20, sight=odd)[0] == run(20)[0]


@pytest.mark.parametrize("trouble, kind", [
    (ticks.Fault("server", "gone"), "server"),
    (errors.NumericsError("not finite"), "E-NAN"),
    ({"actions": np.zeros((3, 2))}, "E-DATA"),
    ({"actions": np.full((10, 2), np.nan)}, "E-DATA"),
    ({"actions": np.stack([0.7 * np.arange(10) + 2.1, np.zeros(10)], -1)},
     "plan"), ({"plan": 1}, "server"), ([1, 2], "server")])
def test_a_policy_in_trouble_is_stopped_for(trouble, kind):
  controls, car, _ = run(39, trouble=at(range(13, 20, 2), trouble))
  assert braking(controls) == list(range(19, 29))
  assert car.faults == {kind: 4} == car.summary()["faults"]
  assert [s["kind"] for s in car.summary()["stops"]] == [kind]
  assert controls[29].throttle > 0


def test_a_bug_is_not_hidden():
  with pytest.raises(ZeroDivisionError):
    run(13, trouble={13: ZeroDivisionError()})


def test_sensors_that_stay_away_are_stopped_for_at_once():
  lost = {t: {"speed": None} for t in range(14, 40)}
  controls, car, policy = run(39, bad=lost)
  # 14 + 10 bridged, so tick 24 is the first without a speed
  assert braking(controls) == list(range(24, 40))
  assert policy.asked[-1]["step"] == 23
  assert car.faults["speed"] == 16
  assert car.stops == [{"tick": 24, "kind": "speed", "ticks": 16}]


@pytest.mark.parametrize("changes", [
    {"speed": np.nan}, {"speed": np.inf}, {"speed": 101.0},
    {"acceleration": np.full(3, 2e4)}, {"angular_velocity": np.full(3, 2e3)},
    {"compass": -2e3}, {"gps": np.array([np.inf, 0.0])}])
def test_impossible_numbers_are_bridged_then_stopped_for(changes):
  name, = changes
  controls, car, _ = run(23, bad=at(range(14, 24), changes))
  assert not car.faults and not braking(controls)
  _, car, _ = run(24, bad=at(range(14, 25), changes))
  assert car.faults == {name: 1} and car.stops[0]["tick"] == 24


def test_numbers_that_can_be_are_taken():
  changes = {"speed": 99.0, "acceleration": np.full(3, 9e3),
             "angular_velocity": np.full(3, 900.0)}
  _, car, policy = run(13, bad={12: changes, 13: changes})
  assert policy.asked[-1]["proprio"][-1, 0] == 99.0 and not car.faults


def test_a_gps_that_stands_still_on_a_moving_car_is_stopped_for(caplog):
  still = {"gps": drive.reading(14).gps}
  # At 6 m/s a fix is believed for 1.3 s; frozen for 0.4 s it is found first.
  limits = safety.limits(frozen_s=0.4)
  controls, car, _ = run(35, bad=at(range(14, 25), still), limits=limits)
  assert braking(controls)[0] == 22 == car.stops[0]["tick"]
  assert car.faults["gps_frozen"] == 3
  assert car.faults["start"] == 4  # from tick 27 on: a new past is gathered
  assert "gps repeats itself for 8 ticks" in caplog.text
  assert not run(35, bad=at(range(14, 22), still), limits=limits)[1].faults


@pytest.mark.parametrize("frame, kind, first", [
    (np.full(SHAPE, 2, np.uint8), "camera_blank", 13),
    (np.full(SHAPE, 253, np.uint8), "camera_blank", 13),
    (np.full(SHAPE, 3, np.uint8), "camera_frozen", 17),
    (np.full(SHAPE, 252, np.uint8), "camera_frozen", 17)])
def test_a_camera_that_shows_nothing_is_stopped_for(frame, kind, first):
  sight = at(range(13, 41), {"rgb_back": frame})
  _, car, policy = run(39, sight=sight, limits=safety.limits(frozen_s=0.2))
  assert set(car.faults) == {kind} and car.stops[0]["kind"] == kind
  assert car.stops[0]["tick"] == first + 6
  assert [o["step"] for o in policy.asked] == list(range(11, first, 2))


def test_a_plan_that_came_late_is_not_followed(monkeypatch):
  clock = itertools.count()        # a second passes between two looks at it
  monkeypatch.setattr(driver.time, "perf_counter", lambda: next(clock))
  assert run(19, timeout_s=1.0)[1].faults == {}
  controls, car, _ = run(19, timeout_s=0.99)
  assert car.faults == {"late": 5} and controls == [driver.STOP] * 20


TIMES = 0.05 * np.arange(41)


def test_time_that_passes_changes_nothing():
  want = run(40)[0]
  assert run(40, times=TIMES)[0] == want
  shaken = TIMES + 0.01 * (np.arange(41) % 2)
  assert run(40, times=shaken + 1e6)[0] == want


def test_a_tick_out_of_order_is_ignored():
  car = run(20, times=TIMES)[1]
  same = car.control
  for time_s in (TIMES[20], TIMES[3], TIMES[20] + 0.024, np.nan, "now"):
    assert car.step(drive.reading(0), cameras(0), time_s) == same
  assert car.tick == 20 and car.faults == {"time": 5}
  after = [car.step(drive.reading(t), cameras(t), TIMES[t])
           for t in range(21, 31)]
  assert after == run(30)[0][21:] and not car.stops


def test_a_clock_that_stands_is_stopped_for_and_then_believed_anew():
  car = run(20, times=TIMES)[1]
  found = [car.step(drive.reading(20), cameras(20), TIMES[20])
           for _ in range(7)]
  assert [c.brake for c in found] == [0.0] * 6 + [0.4]
  assert car.stops[0]["kind"] == "time"
  for t in range(21, 41):   # set back, but running: half a second, five plans
    last = car.step(drive.reading(t), cameras(t), TIMES[t - 20])
  assert last.throttle > 0 and car.stops[0]["ticks"] == 19


@pytest.mark.parametrize("late, faults", [(0.024, {}), (0.026, {"time": 1})])
def test_missing_ticks_end_the_past(late, faults):
  times = TIMES + late * (np.arange(41) > 14)
  controls, car, _ = run(16, times=times)
  assert {k: car.faults[k] for k in car.faults if k == "time"} == faults
  assert braking(controls) == ([15, 16] if faults else [])


def test_after_a_stop_the_controller_begins_anew():
  bend = {"actions": np.stack([0.7 * np.arange(10), 0.1 * np.arange(10)], -1)}
  controls, _, _ = run(30, trouble=at((11, 13, *range(21, 31, 2)), bend) | at(
      range(15, 22, 2), GONE), limits=safety.limits(recover_plans=1))
  assert controls[23].steer == controls[11].steer != controls[13].steer


def test_trouble_at_the_start_waits_and_then_drives():
  controls, car, _ = run(20, trouble=at((11, 13), GONE))
  assert controls[:15] == [driver.STOP] * 15 and controls[15].throttle > 0
  assert car.stops == [] and car.faults == {"server": 2}


def test_a_fault_is_not_logged_all_the_time(caplog):
  run(40, trouble=at(range(13, 40, 2), GONE))
  assert [r.getMessage() for r in caplog.records] == [
      "tick 13: the last plan goes on: gone",
      "tick 19: braking: gone"]
  caplog.clear()
  limits = safety.limits(hold_s=0.25)
  run(20, trouble=at(range(13, 20, 2), GONE), limits=limits)
  assert caplog.messages[1] == "tick 18: braking: no plan for 0.25 s"


def test_the_summary_tells_the_drive():
  found = run(20)[1].summary()
  assert found["ticks"] == 21 and found["overrides"]["plans"] == 5
  assert found["controller"]["name"] == "drivemoe"
  assert found["options"]["nav_plan"] == "sparse"
  assert set(found["preprocess_ms"]) == set(found["ask_ms"]) == {"p50", "p95"}
  assert (found["faults"], found["stops"], found["held_ticks"]) == ({}, [], 0)
  assert found["safety"]["hold_s"] == 0.3 and found["timeout_s"] == 10.0
