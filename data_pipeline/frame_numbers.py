"""The numbers of one recorded frame, from its annotation file.

What a route's samples and a check of the raw files both read: position,
heading, speed, acceleration, turning and the next route point.
"""

import math
import os
import re

from data_pipeline import errors, reading

ANNO = "json.gz"  # suffix of annotation files
REMEDY = "extract or record the route again, or set on_bad_record=skip"


def listed(folder, suffix=ANNO, remedy=REMEDY):
  """Numbers of a folder's files NNNNN.SUFFIX; what has another name is none.

  Raises:
    DataError: there is no such folder.
  """
  pattern = re.compile(rf"(\d{{5}})\.{re.escape(suffix)}")
  try:
    found = map(pattern.fullmatch, os.listdir(folder))
    return {int(match[1]) for match in found if match}
  except OSError as error:
    raise errors.DataError(
        f"{folder}: {error.strerror}; {remedy}") from None


def count(folder, suffix=ANNO, frames=None, remedy=REMEDY):
  """Number of a folder's files, which must go from 0 on without a gap.

  Args:
    frames: how many there must be at least; None: as many as there are.
    remedy: what the caller's user can do.

  Raises:
    DataError: none there, or a gap.
  """
  present = listed(folder, suffix, remedy)
  if not present:
    raise errors.DataError(f"{folder}: no frame in it; {remedy}")
  frames = len(present) if frames is None else frames
  for t in range(frames):
    if t not in present:
      raise errors.DataError(
          f"{folder}/{t:05d}.{suffix} is missing: frame {t} of {frames}; "
          f"{remedy}")
  return frames


def read(path, nan_heading):
  """Reads an annotation file.

  Args:
    path: .../anno/%05d.json.gz.
    nan_heading: where a frame without compass takes its heading from; see
      bench2drive.read_route.

  Returns:
    12 numbers: position (2), heading, speed, acceleration (3), angular
    velocity (3), far node (2); units as in bench2drive.Route.

  Raises:
    DataError: a file that cannot be read, or a number that is not finite.
  """
  try:
    with open(path, "rb") as file:
      frame = reading.parse(reading.gunzip(file.read()))
    box = frame["bounding_boxes"][0]
    if box["class"] != "ego_vehicle":
      raise errors.DataError(
          f"{path}: bounding_boxes[0] is a {box['class']!r}, not the "
          f"ego_vehicle; {REMEDY}")
    numbers = [
        *_finite(path, "bounding_boxes[0].location", box["location"][:2], 2),
        _heading(path, frame["theta"], box, nan_heading),
        *_finite(path, "speed", [frame["speed"]], 1),
        *_finite(path, "acceleration", frame["acceleration"], 3),
        *_finite(path, "angular_velocity", frame["angular_velocity"], 3),
        *_finite(path, "x_command_far", [frame["x_command_far"]], 1),
        *_finite(path, "y_command_far", [frame["y_command_far"]], 1)]
  except errors.DataError:
    raise
  except (OSError, ValueError) as error:
    raise errors.DataError(
        f"{path} cannot be read ({error}); {REMEDY}") from None
  except (KeyError, IndexError, TypeError, OverflowError) as error:
    raise errors.DataError(
        f"{path} is not a Bench2Drive frame ({type(error).__name__}: {error});"
        f" {REMEDY}") from None
  return numbers


def _heading(path, theta, box, nan_heading):
  """Compass to world yaw; a frame may come without (NaN or null)."""
  if theta is not None and math.isfinite(theta):
    return theta - math.pi / 2
  if nan_heading == "zero":
    return 0.0
  yaw = _finite(path, "bounding_boxes[0].rotation", box["rotation"], 3)[2]
  # Same branch as a compass in [0, 2pi) gives.
  return (math.radians(yaw) + math.pi / 2) % math.tau - math.pi / 2


def _finite(path, field, values, count):
  if not isinstance(values, list) or len(values) != count or not all(
      v is not None and math.isfinite(v) for v in values):
    raise errors.DataError(
        f"{path}: {field} is {values}, want {count} finite numbers; {REMEDY}")
  return values
