"""The CARLA agent on recorded ticks: in process, through the server, with
sensors and servers that fail. No simulator, a stub leaderboard: see replay.
"""

import contextlib
import json
import os
import time

import numpy as np
import pytest

from data_pipeline import errors, ticks
from drivemoe_jax import build, serve
from tests import fake_policy, policies
from tests.launch.carla import replay
from tests.launch.carla.drives import driven, serving

# For random parameters, whose plans no car can drive.
WIDE = dict.fromkeys(("acceleration_mps2", "start_m", "slack_m", "jump_m"), 1e6)


def planner():
  """Its plans start where the car is, but for some centimetres that tell the
  tick."""
  return fake_policy.FakePolicy(tell=0.005)


def braking(controls):
  return np.flatnonzero(controls[:, 2] > 0).tolist()


@pytest.mark.parametrize("parity", [False, True])
def test_the_server_and_the_same_process_drive_alike(
    agents, recorded, config, monkeypatch, parity):
  from launch.carla import in_process
  model = policies.make()
  monkeypatch.setattr(build, "load_run", lambda workdir, step: None)
  monkeypatch.setattr(in_process.policy.Policy, "of_run", lambda run: model)
  in_process.load.cache_clear()
  local, told = driven(agents, recorded, config(
      workdir="run", official_parity=parity, safety=WIDE))
  with serving(model) as url:
    remote, _ = driven(agents, recorded, config(
        server=url, official_parity=parity, safety=WIDE))
  np.testing.assert_array_equal(local, remote)
  assert braking(local)[:11] == list(range(11))
  assert told["overrides"]["plans"] == 13 and told["faults"] == {}
  assert told["options"]["nav_plan"] == ("dense" if parity else "sparse")


def test_sensors_are_bench2drive_s(agents, recorded, config):
  with serving(planner()) as url:
    agent = replay.start(agents, recorded, config(
        server=url, camera_width=1600))
  sensors = {s["id"]: s for s in agent.sensors()}
  assert agent.track == "SENSORS" and len(sensors) == 9
  for name in replay.CAMERAS:
    camera = sensors[name]
    assert (camera["width"], camera["height"]) == (1600, 900)
  mounts = {"CAM_BACK": (-2.0, 0.0, 1.6, 180.0, 110.0),
            "CAM_FRONT_LEFT": (0.27, -0.55, 1.6, -55.0, 70.0)}
  for name, mount in mounts.items():
    assert tuple(sensors[name][k] for k in (
        "x", "y", "z", "yaw", "fov")) == mount
  assert sensors["GPS"]["x"] == sensors["IMU"]["x"] == -1.4


def test_the_drive_is_recorded(
    agents, recorded, config, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("SAVE_PATH", str(tmp_path / "save"))
  with serving(planner()) as url:
    driven(agents, recorded, config(server=url))
  said = capsys.readouterr().out
  assert "drivemoe: controller drivemoe, Options(" in said
  assert "drivemoe: 36 ticks, faults {}, stops 0, overruled plans {" in said
  folder = tmp_path / "save" / "Route_1"
  metrics = json.loads((folder / "metric_info.json").read_text())
  assert list(metrics) == [str(t) for t in range(11, 36, 2)]
  assert metrics["11"] == {"location": [1.0, 2.0, 3.0]}
  drive = json.loads((folder / "drive.json").read_text())
  assert drive["controller"]["name"] == "drivemoe" and drive["ticks"] == 36
  assert sorted(os.listdir(folder)) == ["drive.json", "metric_info.json"]


def without(name, at):
  """A change of the input: sensor `name` drops out in the ticks `at`."""
  def change(t, said):
    if t in at:
      del said[name]
    return said
  return change


def stale(name, at):
  """A change of the input: sensor `name` says what it said a tick before."""
  def change(t, said):
    if t in at:
      said[name] = (t - 1, said[name][1])
    return said
  return change


@pytest.mark.parametrize("fault", [without, stale])
def test_a_dropped_or_stale_camera_is_bridged_then_stopped_for(
    agents, recorded, config, fault):
  with serving(planner()) as url:
    for last, stops in ((26, []), (27, [{"tick": 27, "kind": "camera",
                                         "ticks": 9}])):
      controls, summary = driven(agents, recorded, config(server=url), fault(
          "CAM_BACK", range(21, last + 1)))
      assert summary["faults"] == {"camera": (last - 19) // 2}
      assert summary["stops"] == stops
      assert braking(controls)[11:] == list(range(27, 36) if stops else [])


def test_a_tick_that_was_there_before_is_ignored(agents, recorded, config):
  with serving(planner()) as url:
    path = config(server=url)
    usual, _ = driven(agents, recorded, path)
    agent = replay.start(agents, recorded, path)
    found = []
    for t in [*range(21), 20, 12, *range(21, 36)]:
      command = agent.run_step(replay.input_data(recorded, t), 0.05 * t)
      found.append([command.throttle, command.steer, command.brake])
    assert agent._driver.faults == {"time": 2}
    agent.destroy()
    assert found[21] == found[22] == found[20]
    np.testing.assert_array_equal(found[:21] + found[23:], usual)
    # The clock runs, but the sensors say what they said before.
    summary = driven(agents, recorded, path, lambda t, said: replay.input_data(
        recorded, 20) if t in (21, 22) else said)[1]
  # Front images are needed twice, now and 0.1 s later.
  assert summary["faults"] == {"camera": 2} and summary["stops"] == []


@pytest.mark.parametrize("change", [
    without("GPS", {19, 20}), without("IMU", {20}), without("SPEED", {19}),
    lambda t, said: said | (
        {"GPS": (t, said["GPS"][1] + 1.0)} if t == 20 else {}),
    lambda t, said: said | (
        {"IMU": (t, said["IMU"][1] * np.nan)} if t in (20, 21) else {})],
    ids=["no GPS", "no IMU", "no speed", "GPS jump", "NaN compass"])
def test_numbers_that_drop_out_are_bridged(agents, recorded, config, change):
  with serving(planner()) as url:
    controls, summary = driven(agents, recorded, config(server=url), change)
  assert summary["faults"] == {} and braking(controls)[:11] == list(range(11))


def test_numbers_that_stay_away_are_stopped_for(agents, recorded, config):
  with serving(planner()) as url:
    controls, summary = driven(agents, recorded, config(server=url),
                               without("GPS", range(15, 99)))
  assert set(range(25, 36)) <= set(braking(controls))
  assert summary["faults"]["gps"] == 11
  assert summary["stops"] == [{"tick": 25, "kind": "gps", "ticks": 11}]


def test_a_late_server_is_bridged_and_its_answer_not_mistaken(
    agents, recorded, config):
  policy = planner()

  def change(t, said):
    if t == 15:
      policy.gate.clear()
    if t == 18:
      policy.gate.set()
      time.sleep(0.1)
    return said

  with serving(policy) as url:
    controls, summary = driven(
        agents, recorded, config(server=url, timeout_s=0.3), change)
    usual, _ = driven(agents, recorded, config(server=url))
  assert summary["faults"] == {"late": 2} and summary["held_ticks"] == 4
  # From 19 on plans are those of their own tick.
  assert 19 in [step for batch in policy.batches for step in batch]
  assert braking(controls[19:]) == braking(usual[19:])


def test_a_server_that_goes_and_comes_back(agents, recorded, config):
  policy = planner()
  stack = contextlib.ExitStack()
  port = stack.enter_context(serve.in_background(serve.Server(policy)))
  path = config(server=f"ws://127.0.0.1:{port}", timeout_s=2.0,
                safety={"hold_s": 0, "recover_plans": 5})

  def change(t, said):
    if t == 17:
      stack.close()
    if t == 22:
      stack.enter_context(serve.in_background(serve.Server(policy, port=port)))
    return said

  controls, summary = driven(agents, recorded, path, change)
  stack.close()
  assert braking(controls)[11:] == list(range(17, 31))
  assert summary["faults"] == {"server": 3}
  assert [23] in policy.batches


def test_an_answer_that_is_an_error_is_said(agents, recorded, config, caplog):
  policy = planner()
  policy.trouble = {19: errors.NumericsError("the plan is not finite")}
  with serving(policy) as url:
    controls, _ = driven(agents, recorded, config(server=url))
  assert 19 not in braking(controls)
  assert ("tick 19: the last plan goes on: E-NAN: the plan is not finite"
          in caplog.text)


def test_keys_are_sent_and_wrong_ones_said(agents, recorded, config, tmp_path):
  key = tmp_path / "key"
  with serving(planner(), api_key="k") as url:
    path = config(server=url, api_key_file=str(key), wait_s=30.0)
    key.write_text("k\n")
    assert driven(agents, recorded, path)[1]["faults"] == {}
    key.write_text("x\n")
    with pytest.raises(ticks.Fault, match="wants another API key"):
      replay.start(agents, recorded, path)


@pytest.mark.parametrize("values, text", [
    ({"server": "ws://127.0.0.1:1", "workdir": "run"}, "either server or"),
    ({}, "either server or"), ({"servers": 1}, "unknown keys"),
    ({"server": "http://x"}, "ws://HOST:PORT"),
    ({"server": "ws://127.0.0.1:1", "controller": "pd"}, "known: drivemoe"),
    ({"server": "ws://127.0.0.1:1", "options": {"gps": 1}}, "unknown options"),
    ({"server": "ws://127.0.0.1:1", "safety": {"gps": 1}}, "unknown safety"),
    ({"server": "ws://127.0.0.1:1", "safety": []}, "give an object"),
    ({"server": "ws://127.0.0.1:1", "timeout_s": "1"}, "give a number"),
    ({"server": "ws://127.0.0.1:1", "wait_s": -1}, "give a number"),
    ({"server": 5}, "give a text or null"),
    ({"server": "ws://127.0.0.1:1", "threads": 0}, "give a whole number"),
    ({"server": "ws://127.0.0.1:1", "camera_width": "9"}, "a whole number"),
    ({"server": "ws://127.0.0.1:1", "official_parity": 1}, "true or false"),
    ({"workdir": "run", "step": -1}, "a whole number or null"),
])
def test_configs_that_make_no_sense_are_refused(
    agents, recorded, config, values, text):
  with pytest.raises(errors.ConfigError, match=text):
    replay.start(agents, recorded, config(**values))


def test_no_server_no_route_and_another_policy_are_said(
    agents, recorded, config):
  with pytest.raises(ticks.Fault, match="no server at ws://127.0.0.1:1"):
    replay.start(agents, recorded, config(server="ws://127.0.0.1:1"))
  agent = agents.DriveMoEAgent("host", 0)
  with pytest.raises(errors.DataError, match="gave no route"):
    agent.setup(config(server="ws://127.0.0.1:1"))
  agent.destroy()                     # the evaluator does, after any failure
  for key, value, text in (("protocol", 2, "one version"),
                           ("history", 3, "one version"),
                           ("horizon", 7, "more than 7")):
    policy = planner()
    policy.metadata[key] = value
    with serving(policy) as url:
      with pytest.raises(errors.ConfigError, match=text):
        replay.start(agents, recorded, config(server=url))
