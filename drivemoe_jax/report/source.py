"""What a report is made of: the files of a run folder, checked on reading."""

import os

import numpy as np
from PIL import Image

from data_pipeline import errors, images, prepared, reading, schema
from drivemoe_jax.evaluators import routing
from drivemoe_jax.report import projection

NEEDED = ("pred", "gt", "constant_velocity", "camera", "skill", "route",
          "frame", "valid", "heading_change", "turns", "begins_to_brake",
          "goal", "speed", "view", "data_root")
PLANS = ("pred", "gt", "constant_velocity")
# dtype kinds and number of axes
KINDS = dict.fromkeys(PLANS, ("f", 3)) | {
    "camera": ("iu", 1), "skill": ("iu", 1), "view": ("iu", 1),
    "frame": ("iu", 1), "route": ("U", 1), "valid": ("b", 1),
    "turns": ("b", 1), "begins_to_brake": ("b", 1), "goal": ("f", 2),
    "heading_change": ("f", 1), "speed": ("f", 1), "data_root": ("U", 0),
    "camera_logits": ("f", 2), "skill_logits": ("f", 2)}
EVALUATE = "run: python -m launch.evaluate --workdir "


def read_json(workdir, name, remedy):
  """Reads workdir/name. Raises DataError with the remedy."""
  path = os.path.join(workdir, name)
  if not os.path.exists(path):
    raise errors.DataError(f"no {path}; {remedy}")
  value = reading.json_file(path, remedy, is_no="is broken")
  if not isinstance(value, dict):
    raise errors.DataError(f"{path} is broken (no object); {remedy}")
  return value


def read_metrics(workdir):
  """The training log: one dict a line, each with its `step`."""
  path = os.path.join(workdir, "metrics.jsonl")
  remedy = f"run: python -m launch.train --config ... --workdir {workdir}"
  try:
    with open(path, encoding="utf-8") as file:
      lines = [reading.parse(line) for line in file if line.strip()]
  except FileNotFoundError:
    raise errors.DataError(f"no {path}; {remedy}") from None
  except (OSError, ValueError) as error:
    raise errors.DataError(
        f"{path} is broken ({error}); mend that line, or {remedy}") from None
  for line in lines:
    why = schema.fault(line, {"step": schema.number}, "a line") or (
        schema.fault(line, schema.Each(_value), "a line"))
    if why:
      raise errors.DataError(
          f"{path} is broken ({why}); mend that line, or {remedy}")
  if not lines:
    raise errors.DataError(f"{path} is empty; {remedy}")
  return lines


def _value(value):
  """A number or null."""
  return value is None or schema.number(value)


def _fault_of_predictions(arrays):
  """What is wrong with the arrays of predictions.npz, in words, or None."""
  count = len(arrays["pred"]) if arrays["pred"].ndim else 0
  for name, array in arrays.items():
    kinds, rank = KINDS.get(name, ("", None))
    if kinds and (array.dtype.kind not in kinds or array.ndim != rank):
      return f"{name} is {array.dtype} {array.shape}"
    if name != "data_root" and array.shape[:1] != (count,):
      return f"{name} has the shape {array.shape} for {count} windows"
  plans = {arrays[name].shape for name in PLANS}
  if len(plans) > 1 or 0 in arrays["pred"].shape or (
      arrays["pred"].shape[2] != 2 or arrays["goal"].shape[1] != 2):
    return f"plans have the shapes {sorted(plans)}"
  if count and not -1 <= arrays["skill"].min() <= arrays["skill"].max() < len(
      routing.SKILL_NAMES):
    return "skill holds an unknown one"
  try:
    names = set(map(str, arrays["route"]))
    str(arrays["data_root"])
  except ValueError as error:
    return f"a name is no text ({error})"
  return next((f"route {name!r} is no name of a folder" for name in names
               if not schema.name(name)), None)


def read_predictions(workdir):
  """The arrays of predictions.npz. Raises DataError without any window."""
  path = os.path.join(workdir, "predictions.npz")
  remedy = EVALUATE + workdir
  try:
    arrays = reading.arrays(path)
  except FileNotFoundError:
    raise errors.DataError(f"no {path}; {remedy}") from None
  except (OSError, ValueError) as error:
    raise errors.DataError(f"{path} is broken ({error}); {remedy}") from None
  missing = [name for name in NEEDED if name not in arrays]
  if missing:
    raise errors.DataError(f"{path} lacks {missing}; {remedy}")
  why = _fault_of_predictions(arrays)
  if why:
    raise errors.DataError(f"{path} is broken ({why}); {remedy}")
  if not arrays["valid"].any():
    raise errors.DataError(f"{path} holds no valid window; {remedy}")
  return arrays


def _prepared_pictures(root, route, frame):
  """The same of a prepared folder, whose square images are stretched back."""
  side = prepared.read_manifest(root)["options"]["size"]
  found = prepared.Shards(root).pixels(
      route, frame, projection.RIG.values(), side)
  wide = (round(side / projection.ASPECT), side)
  return {name: np.asarray(Image.fromarray(found[folder]).resize(wide))
          for name, folder in projection.RIG.items()}


def read_pictures(workdir, predictions, window):
  """The six source pictures of a window: {RIG name: uint8 [h,w,3]}."""
  root = os.path.join(workdir, str(predictions["data_root"]))
  route, frame = predictions["route"][window], predictions["frame"][window]
  if prepared.is_prepared(root):
    return _prepared_pictures(root, str(route), int(frame))
  pictures = {}
  for name, folder in projection.RIG.items():
    path = os.path.join(
        root, str(route), "camera", folder, f"{int(frame):05d}.jpg")
    try:
      with open(path, "rb") as file:
        pictures[name] = images.opened(
            file.read(), lambda image: np.asarray(image.convert("RGB")))
    except images.UNREADABLE as error:
      raise errors.DataError(
          f"cannot read picture {path} ({error}); the report needs the routes "
          "that were evaluated: put them back, or evaluate again") from None
  return pictures
