"""A handful of made-up windows, and a driver whose eyes are one pixel."""

import numpy as np

from data_pipeline import windows as windows_lib

HORIZON = 10


def windows(routes=8, frames=20, seed=0):
  """Cars that all drive alike, until half of the routes turn right."""
  rng = np.random.default_rng(seed)
  count = routes * frames
  route = np.repeat(np.arange(routes), frames)
  speed = rng.uniform(3, 8, count)
  rate = np.where(route % 2, 0.5, 0.0)                   # [M] rad/s
  time = np.arange(HORIZON) / 10
  heading = rate[:, None] * time
  action = speed[:, None, None] * time[:, None] * np.stack(
      [np.cos(heading / 2), np.sin(heading / 2)], -1)
  proprio = np.zeros((count, 5, 10), np.float32)
  proprio[:, :, 0] = speed[:, None]
  return windows_lib.Windows(
      root="data/routes", skipped=(),
      routes=tuple(f"TJunction_Town01_Route{i}_Weather0"
                   for i in range(routes)),
      route_index=route.astype(np.int32),
      frame=np.tile(np.arange(frames, dtype=np.int32), routes),
      proprio=proprio, goal=np.tile(np.float32([20, 0]), (count, 1)),
      action=action.astype(np.float32),
      future_heading=heading.astype(np.float32),
      future_speed=np.repeat(speed[:, None], HORIZON, 1).astype(np.float32),
      camera=np.where(route % 2, 1, 2).astype(np.int32),
      skill=np.where(route % 2, 0, 6).astype(np.int32))


def loader(of, batch_size):
  """ids -> padded batches; the first pixel says whether the road turns."""
  def load(ids):
    for start in range(0, len(ids), batch_size):
      part = np.asarray(ids[start:start + batch_size])
      rows = np.pad(part, (0, batch_size - len(part)), mode="edge")
      images = np.zeros((batch_size, 7, 4, 4, 3), np.uint8)
      images[:, 0, 0, 0, 0] = of.route_index[rows] % 2
      yield {
          "images": images, "text": np.zeros((batch_size, 4), np.int32),
          "proprio": of.proprio[rows], "goal": of.goal[rows],
          "action": of.action[rows] / 10, "camera": of.camera[rows],
          "skill": of.skill[rows], "sample_id": rows.astype(np.int64),
          "valid": np.arange(batch_size) < len(part)}
  return load


def sighted(batch):
  """Drives perfectly by one pixel and the speed."""
  turning = batch["images"][:, 0, 0, 0, 0].astype(int)   # [B]
  speed = batch["proprio"][:, -1, 0]
  time = np.arange(HORIZON) / 10
  heading = 0.5 * turning[:, None] * time
  action = speed[:, None, None] * time[:, None] * np.stack(
      [np.cos(heading / 2), np.sin(heading / 2)], -1) / 10
  camera, skill = np.where(turning, 1, 2), np.where(turning, 0, 6)
  return {"action": action, "camera_logits": 5.0 * np.eye(5)[camera],
          "view": camera, "skill_logits": 5.0 * np.eye(7)[skill]}


def blind(batch):
  """Goes straight on, without routers."""
  time = np.arange(HORIZON) / 10
  ahead = batch["proprio"][:, -1, :1] * time / 10
  return {"action": np.stack([ahead, 0 * ahead], -1)}
