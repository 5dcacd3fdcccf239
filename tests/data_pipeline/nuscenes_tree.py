"""Writes a small synthetic data set in nuScenes' format: tables and images.

Scenes drive as the caller says, in nuScenes' axes (y left, yaw
counter-clockwise); cameras take pictures at 12 Hz, each at its own moment,
and every sixth is a keyframe.
"""

import json
import math

from data_pipeline import nuscenes_tables
from tests.data_pipeline import fixtures

START_US = 1_532_402_927_000_000
PERIOD_US = 83_333
EVERY = 6                      # pictures between keyframes


def straight(seconds):
  """10 m/s along +x from (100, 50)."""
  return 100 + 10 * seconds, 50.0, 0.0


def write(root, scenes=("scene-0061",), *, drive=straight, pictures=37,
          version="v1.0-test", place="boston-seaport"):
  """Writes a tree of `pictures` per camera and scene; returns root's path.

  Args:
    root: pathlib folder. scenes: names.
    drive: seconds -> (x, y, yaw) of the ego.
  """
  tables = {name: [] for name in (
      "log", "scene", "sample", "sensor", "calibrated_sensor", "sample_data",
      "ego_pose")}
  channels = [*nuscenes_tables.FOLDER_OF_CHANNEL, "LIDAR_TOP"]
  tables["log"] = [{"token": "log", "location": place, "vehicle": "n008"}]
  for channel in channels:
    tables["sensor"].append({"token": f"s-{channel}", "channel": channel})
    tables["calibrated_sensor"].append(
        {"token": f"c-{channel}", "sensor_token": f"s-{channel}"})
  for scene in scenes:
    tables["scene"].append(
        {"token": scene, "name": scene, "log_token": "log"})
    for n in range(pictures):
      if n % EVERY == 0:
        tables["sample"].append(
            {"token": f"{scene}-{n}", "scene_token": scene})
      for index, channel in enumerate(channels):
        _take(root, tables, drive, scene, n, index, channel)
  (root / version).mkdir(parents=True)
  for name, rows in tables.items():
    # Rows in any order: nothing may rely on it.
    (root / version / f"{name}.json").write_text(
        json.dumps(rows[::-1], indent=0))
  return str(root)


def moment(n, index):
  """When camera `index` takes picture n: they fire one after the other."""
  return START_US + n * PERIOD_US + index * 5_000


def _take(root, tables, drive, scene, n, index, channel):
  key = n % EVERY == 0
  folder = "samples" if key else "sweeps"
  file = f"{folder}/{channel}/{scene}__{n:04d}.jpg"
  token, time = f"{scene}-{channel}-{n}", moment(n, index)
  x, y, yaw = drive((time - START_US) / 1e6)
  tables["ego_pose"].append({
      "token": token, "timestamp": time, "translation": [x, y, 0.3],
      "rotation": [math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]})
  tables["sample_data"].append({
      "token": token, "sample_token": f"{scene}-{n - n % EVERY}",
      "ego_pose_token": token, "calibrated_sensor_token": f"c-{channel}",
      "timestamp": time, "filename": file, "is_key_frame": key})
  path = root / file
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(fixtures.jpeg(index, n, salt=scene))
