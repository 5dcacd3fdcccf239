"""Records a short drive of the miniworld's expert as CARLA's sensors say it."""

import numpy as np

from data_pipeline import navigation
from data_pipeline.miniworld import cameras, expert, planner
from data_pipeline.miniworld import world as worlds

WIDTH, HEIGHT = 64, 36
ROUTE = ("ParkedObstacle", 3)
# The rig's order there; the agent's own is the same.
NAMES = tuple(cameras.RIG)


def record(ticks=36):
  """{name: array} for replay.

  frames [T,6,h,w,4] BGRA; gps [T,3] deg and m; imu [T,7]; speed [T] m/s;
  gps_plan [N,2] deg and world_plan [N,2] m, a node a metre; sparse [K] nodes.
  """
  world = worlds.World((WIDTH, HEIGHT))
  state = world.reset(*ROUTE)
  driver = expert.Expert(world)
  reference = navigation.Georeference(35.25, -101.87)
  dense, _ = planner.dense(world.scene.route)
  thin, _ = planner.sparse(world.scene.route)
  said = {"frames": [], "gps": [], "imu": [], "speed": []}
  for _ in range(ticks):
    images = world.cameras()
    said["frames"].append([np.dstack([
        images[name][..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)])
        for name in NAMES])
    said["gps"].append([*reference.to_gps(*state.gnss), 0.0])
    said["imu"].append([*state.acceleration, *state.angular_velocity,
                        state.compass])
    said["speed"].append(state.speed)
    state = world.step(driver.control())
  found = {name: np.array(values) for name, values in said.items()}
  found["gps_plan"] = np.array([reference.to_gps(*node) for node in dense])
  found["world_plan"] = dense
  found["sparse"] = np.array([
      np.argmin(np.hypot(*(dense - node).T)) for node in thin])
  return found
