r"""Replays recorded ticks through the CARLA agent, without a simulator.

python replay.py REPOSITORY TICKS.npz CONFIG.json OUT.json [SAVE_PATH]

A stub `leaderboard` is made here, and a stub `carla` where no wheel is
installed. Runs on Python 3.7 as well, so that the very same drive can be done
beside the wheel of CARLA 0.9.15.
"""

import importlib
import json
import os
import sys
import types

import numpy as np

CAMERAS = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK",
           "CAM_BACK_LEFT", "CAM_BACK_RIGHT")


class Location:

  def __init__(self, x, y):
    self.x, self.y, self.z = x, y, 0.0


class AutonomousAgent:
  """What the evaluator's base class gives its agents, without a world."""

  def __init__(self, host="", port=0, debug=False):
    self._global_plan = self._global_plan_world_coord = None
    self._plan_gps_HACK = None
    self.hero_actor = object()

  def get_metric_info(self):
    return {"location": [1.0, 2.0, 3.0]}

  def set_global_plan(self, gps, world, sparse):
    """The evaluator thins the plan out itself; here it is told how."""
    self._plan_gps_HACK = gps
    self._global_plan = [gps[i] for i in sparse]
    self._global_plan_world_coord = [world[i] for i in sparse]


def stub_modules():
  """{name: module} of leaderboard, and of carla where there is none."""
  base = types.ModuleType("leaderboard.autoagents.autonomous_agent")
  base.AutonomousAgent = AutonomousAgent
  base.Track = types.SimpleNamespace(SENSORS="SENSORS")
  room = types.ModuleType("leaderboard.autoagents")
  room.autonomous_agent = base
  modules = {"leaderboard": types.ModuleType("leaderboard"),
             "leaderboard.autoagents": room,
             "leaderboard.autoagents.autonomous_agent": base}
  try:
    known = hasattr(importlib.import_module("carla"), "VehicleControl")
  except ImportError:
    known = False
  if not known:
    carla = types.ModuleType("carla")
    carla.VehicleControl = types.SimpleNamespace
    modules["carla"] = carla
  return modules


def plans(ticks):
  """(gps, world, sparse) as the evaluator hands them to set_global_plan."""
  gps = [({"lat": lat, "lon": lon, "z": 0.0}, 4)
         for lat, lon in ticks["gps_plan"]]
  world = [(types.SimpleNamespace(location=Location(x, y)), 4)
           for x, y in ticks["world_plan"]]
  return gps, world, [int(i) for i in ticks["sparse"]]


def input_data(ticks, t):
  """Tick t as the evaluator hands it to run_step."""
  said = {name: (t, ticks["frames"][t, i]) for i, name in enumerate(CAMERAS)}
  said["GPS"] = (t, ticks["gps"][t])
  said["IMU"] = (t, ticks["imu"][t])
  said["SPEED"] = (t, {"speed": float(ticks["speed"][t])})
  return said


def start(agents, ticks, config, name="Route_1"):
  """An agent at the start of the recorded route."""
  agent = getattr(agents, agents.get_entry_point())("host", 0, False)
  agent.set_global_plan(*plans(ticks))
  agent.setup(config + "+" + name)
  return agent


def drive(agent, ticks, change=lambda t, said: said):
  """The controls [throttle, steer, brake] of all ticks."""
  found = []
  for t in range(len(ticks["speed"])):
    command = agent.run_step(change(t, input_data(ticks, t)), 0.05 * t)
    found.append([command.throttle, command.steer, command.brake])
  return found


def main(repository, ticks, config, out, save_path=None):
  sys.path.insert(0, repository)
  sys.path.insert(0, os.path.join(repository, "launch", "carla"))
  if save_path:
    os.environ["SAVE_PATH"] = save_path
  sys.modules.update(stub_modules())
  agents = importlib.import_module("agent")  # as the evaluator imports it
  with np.load(ticks) as file:
    ticks = dict(file)
  agent = start(agents, ticks, config)
  controls = drive(agent, ticks)
  agent.destroy()
  heavy = sorted({"jax", "tensorflow", "drivemoe_jax"} & set(sys.modules))
  with open(out, "w", encoding="utf-8") as file:
    json.dump({"controls": controls, "python": sys.version, "heavy": heavy,
               "carla": getattr(sys.modules["carla"], "__file__", None)}, file)


if __name__ == "__main__":
  main(*sys.argv[1:])
