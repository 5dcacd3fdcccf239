"""Writes small synthetic routes in Bench2Drive's layout, and breaks them."""

import gzip
import io
import json
import math

import numpy as np
from PIL import Image

from data_pipeline import spec

NAME = "ParkedObstacle_Town01_Route{}_Weather0"
SIZE = (32, 18)  # width, height


def frame(t, *, turn=0.02, speed=5.0, theta=...):
  """One annotation: an arc from north (-y), `turn` rad per frame."""
  yaw = -math.pi / 2 + turn * t
  x, y = 100 + 0.5 * t, 50 + 0.1 * t * t
  return {
      "x": x, "y": y, "speed": speed + 0.01 * t,
      "theta": (yaw + math.pi / 2) % math.tau if theta is ... else theta,
      "acceleration": [0.1 * t, -0.2, 9.8],
      "angular_velocity": [0.0, 0.01, turn * 10],
      "x_command_far": x + 40.0, "y_command_far": y - 3.0, "command_far": 4,
      "bounding_boxes": [{
          "class": "ego_vehicle", "location": [x, y, 0.1],
          "rotation": [1.0, 2.0, (math.degrees(yaw) + 180) % 360 - 180]}],
  }


def write_route(root, name="ParkedObstacle_Town01_Route0_Weather0", *,
                frames=24, labels=True, annotate=frame):
  """Writes a route and its labels; returns (root, name, labels root)."""
  folder = root / name
  (folder / "anno").mkdir(parents=True)
  for t in range(frames):
    write_frame(folder, t, annotate(t))
  for index, camera in enumerate(spec.CAMERA_FOLDERS):
    (folder / "camera" / camera).mkdir(parents=True)
    for t in range(frames):
      (folder / "camera" / camera / f"{t:05d}.jpg").write_bytes(
          jpeg(index, t, salt=name))
  if labels:
    write_labels(root / "labels", name, ["NULL"] * frames,
                 ["NORMAL"] * frames)
  return str(root), name, str(root / "labels")


def write_frame(folder, t, content):
  path = folder / "anno" / f"{t:05d}.json.gz"
  path.write_bytes(gzip.compress(json.dumps(content).encode()))


def write_labels(labels_root, name, camera, skill):
  for kind, values in (("camera_labels", camera), ("scenario_labels", skill)):
    path = labels_root / kind / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({str(t): v for t, v in enumerate(values)}))


def jpeg(camera, t, salt=""):
  """A smooth picture that differs by camera, frame and route."""
  rng = np.random.default_rng([camera, t, *salt.encode()])
  coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
  out = io.BytesIO()
  coarse.resize(SIZE, Image.Resampling.BICUBIC).save(out, "JPEG")
  return out.getvalue()
