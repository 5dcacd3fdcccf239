"""What a report is made of: the files of a run folder, checked on reading."""

import json
import os

import numpy as np
from PIL import Image

from data_pipeline import errors
from drivemoe_jax.report import projection

NEEDED = ("pred", "gt", "constant_velocity", "camera", "skill", "route",
          "frame", "valid", "heading_change", "turns", "begins_to_brake",
          "goal", "speed", "view", "data_root")
EVALUATE = "run: python -m launch.evaluate --workdir "


def read_json(workdir, name, remedy):
  """Reads workdir/name. Raises DataError with the remedy."""
  path = os.path.join(workdir, name)
  try:
    with open(path, encoding="utf-8") as file:
      return json.load(file)
  except FileNotFoundError:
    raise errors.DataError(f"no {path}; {remedy}") from None
  except ValueError as error:
    raise errors.DataError(f"{path} is broken ({error}); {remedy}") from None


def read_metrics(workdir):
  """The training log: one dict a line, each with its `step`."""
  path = os.path.join(workdir, "metrics.jsonl")
  remedy = f"run: python -m launch.train --config ... --workdir {workdir}"
  try:
    with open(path, encoding="utf-8") as file:
      lines = [json.loads(line) for line in file if line.strip()]
  except FileNotFoundError:
    raise errors.DataError(f"no {path}; {remedy}") from None
  except ValueError as error:
    raise errors.DataError(
        f"{path} is broken ({error}); mend that line, or {remedy}") from None
  if not lines:
    raise errors.DataError(f"{path} is empty; {remedy}")
  return lines


def read_predictions(workdir):
  """The arrays of predictions.npz. Raises DataError without any window."""
  path = os.path.join(workdir, "predictions.npz")
  remedy = EVALUATE + workdir
  try:
    with np.load(path) as file:
      arrays = {name: file[name] for name in file.files}
  except FileNotFoundError:
    raise errors.DataError(f"no {path}; {remedy}") from None
  except (OSError, ValueError) as error:
    raise errors.DataError(f"{path} is broken ({error}); {remedy}") from None
  missing = [name for name in NEEDED if name not in arrays]
  if missing:
    raise errors.DataError(f"{path} lacks {missing}; {remedy}")
  if not arrays["valid"].any():
    raise errors.DataError(f"{path} holds no valid window; {remedy}")
  return arrays


def read_pictures(workdir, predictions, window):
  """The six source pictures of a window: {RIG name: uint8 [h,w,3]}."""
  root = os.path.join(workdir, str(predictions["data_root"]))
  route, frame = predictions["route"][window], predictions["frame"][window]
  pictures = {}
  for name, folder in projection.RIG.items():
    path = os.path.join(
        root, str(route), "camera", folder, f"{int(frame):05d}.jpg")
    try:
      with Image.open(path) as image:
        pictures[name] = np.asarray(image.convert("RGB"))
    except OSError as error:
      raise errors.DataError(
          f"cannot read picture {path} ({error}); the report needs the routes "
          "that were evaluated: put them back, or evaluate again") from None
  return pictures
