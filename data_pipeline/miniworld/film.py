"""Films a drive: six cameras, a bird's eye, experts, speed and pedals.

  front left | front      | front right       the chosen camera is framed
  back left  | back       | back right
  from above | experts    | speed, pedals     the plan is drawn from above

One picture per plan of 0.1 s; a GIF takes every second one. Colours are RGB.
"""

import os

import cv2
import numpy as np
from PIL import Image

from data_pipeline import errors, spec
from data_pipeline.miniworld import ground as grounds

PANELS = (("rgb_front_left", "rgb_front", "rgb_front_right"),
          ("rgb_back_left", "rgb_back", "rgb_back_right"))
TILE = (256, 144)    # width and height of a panel [px]
SCALE = 4.0          # of the bird's eye [px/m]
AHEAD = 40           # the ego is this far below its middle [px]
EVERY = {".gif": 4, ".mp4": 2}  # ticks between pictures
FRAME = (255, 210, 0)
TEXT, DIM, BACK = (235, 235, 235), (120, 120, 126), (24, 26, 30)
COLOURS = {"vehicle": (90, 160, 255), "walker": (255, 90, 200),
           "traffic_sign": (255, 150, 40)}


class Film:
  """A film under way; as a context it is finished or leaves no file."""

  def __init__(self, path, size):
    """Args: path: FILE.gif or FILE.mp4. size: of the camera images [px].

    Raises:
      ConfigError: another ending, or no such folder.
    """
    self._path, self._ending = path, os.path.splitext(path)[1].lower()
    if self._ending not in EVERY:
      raise errors.ConfigError(f"film {path}: name it .gif or .mp4")
    if not os.path.isdir(os.path.dirname(path) or os.curdir):
      raise errors.ConfigError(f"film {path}: there is no such folder")
    self._part = os.path.join(os.path.dirname(path), f".part_"
                              f"{os.path.basename(path)}")
    self._pictures, self._writer, self._size = [], None, size
    self.count = 0

  def __enter__(self):
    if self._ending == ".mp4":
      size = (TILE[0] * 3, TILE[1] * 3)
      self._writer = cv2.VideoWriter(
          self._part, cv2.VideoWriter_fourcc(*"mp4v"), 10.0, size)  # pyright: ignore[reportAttributeAccessIssue]
    return self

  def watch(self, world, driver, control):
    """Takes a picture if it is time; see episode.drive."""
    if world.state().tick % EVERY[self._ending]:
      return
    picture = compose(world, driver, control)
    self.count += 1
    if self._writer:
      self._writer.write(picture[..., ::-1])
    else:
      self._pictures.append(Image.fromarray(picture).quantize(
          128, Image.Quantize.MEDIANCUT))

  def __exit__(self, kind, error, trace):
    try:
      if self._writer:
        self._writer.release()
      elif kind is None:
        self._pictures[0].save(
            self._part, "GIF", save_all=True, loop=0, duration=200,
            append_images=self._pictures[1:])
      if kind is None:
        if not os.path.exists(self._part) or not os.path.getsize(self._part):
          raise OSError(0, "nothing was written")
        os.replace(self._part, self._path)
    except OSError as trouble:
      raise errors.StorageError(
          f"{self._path}: {trouble.strerror or trouble}; make room, the "
          "drives themselves are kept") from None
    finally:
      if os.path.exists(self._part):
        os.remove(self._part)


def compose(world, driver, control):
  """One picture [3*TILE height, 3*TILE width, 3] uint8."""
  answer = getattr(driver, "answer", None) or {}
  images = world.cameras()
  chosen = None
  if "camera" in answer:
    chosen = spec.IMAGES[answer["camera"] + 2][0]
  rows = [np.hstack([_camera(images[name], name, name == chosen)
                     for name in row]) for row in PANELS]
  return np.vstack([*rows, np.hstack([
      _above(world, driver), _experts(answer), _dials(world, control)])])


def _camera(image, name, chosen):
  tile = cv2.resize(image, TILE, interpolation=cv2.INTER_AREA)
  _write(tile, name.removeprefix("rgb_").replace("_", " "), (6, 14), TEXT)
  if chosen:
    cv2.rectangle(tile, (1, 1), (TILE[0] - 2, TILE[1] - 2), FRAME, 4)
  return tile


def _above(world, driver):
  """The surroundings seen from above, the ego heading up."""
  ego, ground = world.ego, world.ground
  cos, sin = np.cos(ego.heading), np.sin(ego.heading)
  # World -> picture: ahead is up, right is right.
  turn = SCALE * np.array([[-sin, cos], [-cos, -sin]])
  middle = np.array([TILE[0] / 2, TILE[1] / 2 + AHEAD])
  shift = middle - turn @ ego.position
  # Raster -> world is a scale and the origin's shift.
  matrix = np.hstack([turn * grounds.RESOLUTION,
                      (turn @ ground.origin + shift)[:, None]])
  tile = cv2.warpAffine(ground.image, matrix, TILE,
                        flags=cv2.INTER_AREA, borderValue=BACK)
  place = lambda points: np.round(
      np.asarray(points) @ turn.T + shift).astype(np.int32)
  cv2.polylines(tile, [place(world.scene.route.xy)], False, (60, 190, 90), 1)
  for actor in world.scene.actors:
    if actor.kind in COLOURS:
      cv2.fillPoly(tile, [place(actor.footprint())], COLOURS[actor.kind])
  own = np.array([[2.45, -1.06], [2.45, 1.06], [-2.45, 1.06], [-2.45, -1.06]])
  to_world = np.array([[cos, sin], [-sin, cos]])
  cv2.fillPoly(tile, [place(own @ to_world + ego.position)], (250, 60, 50))
  plan = getattr(getattr(driver, "driver", None), "plan", None)
  if plan is not None:
    cv2.polylines(tile, [place(plan @ to_world + ego.position)], False,
                  FRAME, 2)
  return tile


def _experts(answer):
  """The routers' weight of each skill expert, as bars."""
  tile = _blank("experts")
  weights = answer.get("skill_weights")
  if weights is None:
    _write(tile, "no routers", (6, 34), DIM)
    return tile
  known = [skill.name.lower().replace("_", " ") for skill in spec.Skill]
  if len(weights) != len(known):  # of skills, or of anything else
    known = [f"expert {i}" for i in range(len(weights))]
  for i, (name, weight) in enumerate(zip(known, weights)):
    y = 34 + 16 * i
    _write(tile, name, (6, y), TEXT)
    colour = FRAME if i == int(np.argmax(weights)) else DIM
    cv2.rectangle(tile, (118, y - 9), (118 + max(
        int(round(128 * float(weight))), 1), y), colour, -1)
  return tile


def _dials(world, control):
  state = world.state()
  tile = _blank(f"{world.scene.kind[:30]}")
  _write(tile, f"{state.speed:4.1f} m/s    {state.tick / 20:5.1f} s", (6, 40),
         TEXT)
  for i, (name, value) in enumerate((
      ("throttle", control.throttle), ("brake", control.brake))):
    y = 64 + 18 * i
    _write(tile, name, (6, y), TEXT)
    cv2.rectangle(tile, (78, y - 9), (246, y), DIM, 1)
    cv2.rectangle(tile, (78, y - 9), (78 + int(168 * value), y),
                  (80, 200, 90) if i == 0 else (230, 60, 50), -1)
  _write(tile, "steer", (6, 100), TEXT)
  cv2.rectangle(tile, (78, 91), (246, 100), DIM, 1)
  x = 162 + int(84 * control.steer)
  cv2.rectangle(tile, (min(162, x), 91), (max(162, x) + 1, 100), FRAME, -1)
  words = [kind for kind in {a.kind for a in state.collisions}]
  if words or state.off_road:
    said = "collision" if words else "off the road"
    _write(tile, said, (6, 128), (255, 80, 70))
  return tile


def _blank(title):
  tile = np.full((TILE[1], TILE[0], 3), BACK, np.uint8)
  _write(tile, title, (6, 16), DIM)
  return tile


def _write(tile, text, at, colour):
  for shade, width in ((BACK, 3), (colour, 1)):
    cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, shade, width,
                cv2.LINE_AA)
