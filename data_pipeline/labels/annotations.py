"""Reads the part of raw Bench2Drive annotations that the label rules need.

Lenient where the recordings are: bare NaN and null are "not known", and a
field is asked for only when a rule reads it. Strict about what is missing: the
message names the file, the box and the field. Axes: N frames.
"""

import dataclasses
import math
import os

from data_pipeline import errors, frame_numbers, reading

REMEDY = "extract or record the route again, or leave it out of the folder"
CLASSES = ("vehicle", "walker", "traffic_light", "traffic_sign")
# The rest (vertices, bones, matrices) is most of a file; it is not kept.
TOP = ("speed", "brake", "only_ap_brake", "command_near", "x_command_near",
       "y_command_near", "command_far", "x_command_far", "y_command_far")
BOX = ("class", "id", "type_id", "base_type", "state", "speed", "num_points",
       "rotation", "distance", "affects_ego", "road_id", "section_id",
       "lane_id", "trigger_volume_location")


class Record:
  """Named values of a frame or of a box, read on demand.

  Attributes:
    where: how messages name it: the file, and the box in it.
  """

  def __init__(self, where, values, keep):
    self.where = where
    self._values = {key: values[key] for key in keep if key in values}

  def has(self, key):
    return key in self._values

  def get(self, key):
    """Value as it was recorded; a DataError if the field is missing."""
    try:
      return self._values[key]
    except KeyError:
      raise errors.DataError(
          f"{self.where} has no {key!r}, which the label rules read; "
          f"{REMEDY}") from None

  def number(self, key):
    """Value as a float; null is NaN, which no rule's comparison accepts."""
    value = self.get(key)
    try:
      return _real(value)
    except (TypeError, OverflowError):
      raise errors.DataError(f"{self.where}: {key} is {value!r:.80}, want a "
                             f"number; {REMEDY}") from None

  def integer(self, key):
    """Value as an int, also if it was recorded as a string of digits."""
    value = self.get(key)
    try:
      return int(value)
    except (TypeError, ValueError, OverflowError):
      raise errors.DataError(
          f"{self.where}: {key} is {value!r}, want a whole number; {REMEDY}"
          ) from None

  def vector(self, key):
    """Three floats; null in them is NaN."""
    return _vector(self.where, key, self.get(key))


@dataclasses.dataclass(frozen=True)
class Box:
  """One annotated object.

  Attributes:
    record: its values.
    kind: class. world: (x, y, z) of its location [m].
    x, y: the same in the ego frame [m], forward and to the right.
  """

  record: Record
  kind: str
  world: tuple
  x: float
  y: float

  @property
  def distance(self):
    return math.hypot(self.x, self.y)

  @property
  def id(self):
    return self.record.integer("id")

  @property
  def type_id(self):
    return str(self.record.get("type_id"))

  @property
  def is_bicycle(self):
    return (self.kind == "vehicle"
            and self.record.get("base_type") == "bicycle")


@dataclasses.dataclass(frozen=True)
class Frame:
  """One annotation file.

  Attributes:
    record: its top-level values. ego: Record of the ego's box.
    location: (x, y, z) m of the ego.
    to_ego: 3x4 rows of the matrix from the world to the ego frame.
    boxes: every vehicle, walker, light and sign, but no static vehicle: those
      are parked cars of the map, which no scenario is about and whose recorded
      location cannot be trusted.
  """

  record: Record
  ego: Record
  location: tuple
  to_ego: tuple
  boxes: tuple

  def place(self, world):
    """(x, y) of a world point in this frame's ego axes [m]."""
    return tuple(sum(a * b for a, b in zip(row, world)) + row[3]
                 for row in self.to_ego[:2])

  @property
  def yaw(self):
    """Heading of the ego in the world [rad]."""
    return math.atan2(self.to_ego[0][1], self.to_ego[0][0])

  def lane(self):
    """(road, section, lane) under the ego."""
    return tuple(map(self.ego.integer, ("road_id", "section_id", "lane_id")))


def count_frames(root, name):
  """Number of annotation files of a route, contiguous from 00000.

  Raises:
    DataError: none there, or a gap.
  """
  return frame_numbers.count(os.path.join(root, name, "anno"), remedy=REMEDY)


def read_frames(root, name):
  """Returns the N Frames of a route.

  Raises:
    DataError: a missing or broken file, naming it.
  """
  folder = os.path.join(root, name, "anno")
  return [read_frame(os.path.join(folder, f"{t:05d}.json.gz"))
          for t in range(count_frames(root, name))]


def read_frame(path):
  """Returns the Frame of one annotation file."""
  try:
    with open(path, "rb") as file:
      values = reading.parse(reading.gunzip(file.read()))
  except (OSError, ValueError) as error:
    raise errors.DataError(
        f"{path} cannot be read ({error}); {REMEDY}") from None
  return parse_frame(path, values)


def parse_frame(path, values):
  """Returns the Frame of a parsed annotation; `path` is for messages."""
  boxes = values.get("bounding_boxes") if isinstance(values, dict) else None
  if not isinstance(boxes, list) or not boxes or not all(
      isinstance(box, dict) for box in boxes):
    raise errors.DataError(
        f"{path} is not a Bench2Drive frame: no list of bounding_boxes; "
        f"{REMEDY}")
  ego = boxes[0]
  if ego.get("class") != "ego_vehicle":
    raise errors.DataError(
        f"{path}: bounding_boxes[0] is a {ego.get('class')!r}, not the "
        f"ego_vehicle; {REMEDY}")
  where = f"{path}: bounding_boxes[0] (ego_vehicle)"
  record = Record(where, ego, (*BOX, "location", "world2ego"))
  to_ego = _matrix(where, record.get("world2ego"))
  location = record.vector("location")
  if not all(map(math.isfinite, location)):
    raise errors.DataError(f"{where}: location is {ego['location']}, want 3 "
                           f"finite numbers; {REMEDY}")
  frame = Frame(Record(path, values, TOP), record, location, to_ego, ())
  found = [_box(path, i, box, frame) for i, box in enumerate(boxes)
           if box.get("class") in CLASSES]
  return dataclasses.replace(frame, boxes=tuple(
      box for box in found if not (
          box.kind == "vehicle" and box.record.get("state") == "static")))


def _box(path, index, box, frame):
  where = (f"{path}: bounding_boxes[{index}] ({box['class']} "
           f"{box.get('id', 'without id')})")
  record = Record(where, box, (*BOX, "location"))
  world = record.vector("location")
  return Box(record, box["class"], world, *frame.place(world))


def _vector(where, key, value):
  try:
    if isinstance(value, list) and len(value) == 3:
      return tuple(map(_real, value))
  except (TypeError, OverflowError):
    pass
  raise errors.DataError(
      f"{where}: {key} is {value!r:.80}, want 3 numbers; {REMEDY}")


def _real(value):
  """Float of a number, NaN of null; TypeError of anything else."""
  if value is not None and not isinstance(value, (int, float)):
    raise TypeError
  return math.nan if value is None else float(value)


def _matrix(where, rows):
  try:
    matrix = tuple(tuple(map(float, row)) for row in rows[:3])
    good = len(matrix) == 3 and all(
        len(row) == 4 and all(map(math.isfinite, row)) for row in matrix)
  except (TypeError, ValueError, OverflowError):
    good = False
  if not good:
    raise errors.DataError(f"{where}: world2ego is {rows!r:.200}, want a 4x4 "
                           f"matrix of finite numbers; {REMEDY}")
  return matrix  # pyright: ignore[reportPossiblyUnboundVariable]
