"""A run of a model as small as it gets on a few synthetic frames."""

import json
import os

import jax
import numpy as np

from drivemoe_jax import build, datasets, train
from launch import cli
from tests.data_pipeline import fixtures

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = os.path.join(ROOT, "configs", "tiny.py")
MODEL = dict(
    vision_width=16, vision_layers=1, vision_heads=2, vision_mlp=16,
    image_size=14, patch_size=7, vlm_width=16, vlm_mlp=32, expert_width=16,
    expert_mlp=32, layers=2, heads=2, head_dim=8, moe_layers=1, camera_heads=2,
    camera_hidden=8)
SMALL = {f"model.{key}": x for key, x in MODEL.items()} | {
    "total_updates": 8, "global_batch": 8, "per_device_batch": 8,
    "log_every": 1, "save_every": 3, "keep_last": 2, "data.augment": True,
    "loss.camera_counts": "[]", "loss.skill_counts": "[]"}  # those of the data


def write_routes(root):
  """Three routes of 18 frames and their labels; the last is for validation."""
  cameras = ["CAM_FRONT_LEFT", "NULL", "CAM_BACK_RIGHT"]
  skills = ["OVERTAKING", "NORMAL", "EMERGENCY_BRAKE"]
  for i in range(3):
    name = fixtures.NAME.format(i)
    fixtures.write_route(root, name, frames=18, labels=False)
    fixtures.write_labels(root / "labels", name, cameras[i:i + 1] * 18,
                          skills[i:i + 1] * 18)
  (root / "val.txt").write_text(fixtures.NAME.format(2) + "\n")
  return root


def overrides(routes, changes):
  values = SMALL | {
      "data.root": routes, "data.labels_root": routes / "labels",
      "data.val_list": routes / "val.txt"} | changes
  return [f"--config.{key}={value}" for key, value in values.items()]


def load(routes, arg="", **changes):
  changes = {key.replace("__", "."): x for key, x in changes.items()}
  return cli.load_config(CONFIG + arg, overrides(routes, changes))


def run(config, workdir, accepted=()):
  """(status, lines said) of a run."""
  lines = []
  status = train.run(config, str(workdir), lines.append, accepted)
  return status, lines


def params_of(workdir):
  return jax.device_get(build.load_run(str(workdir)).params)


def log_of(workdir):
  with open(workdir / "metrics.jsonl", encoding="utf-8") as file:
    return [json.loads(line) for line in file]


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


class Killed(BaseException):
  """What SIGKILL looks like from inside: nothing below catches it."""


def interrupt(monkeypatch, after, action):
  """Makes the loader call `action` before it gives batch number `after`."""
  real = datasets.train_batches

  def batches(config, windows, stats, start, weights):
    for number, batch in enumerate(
        real(config, windows, stats, start, weights), start):
      if number == after:
        action()
      yield batch

  monkeypatch.setattr(datasets, "train_batches", batches)


def kill():
  raise Killed
