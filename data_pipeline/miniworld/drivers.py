"""Who may drive an episode: three yardsticks, and a policy.

A driver is made for a World that was reset, and control() is called before
every tick. The policy drives as the CARLA agent does: same buffer of ticks,
same PID and caps, same guard, a plan every second tick.
"""

import io
import math

import cv2
import numpy as np
from PIL import Image

from data_pipeline import control, driver, errors, navigation, spec, ticks
from data_pipeline.miniworld import actors, disturb, expert, planner
from data_pipeline.miniworld import world as worlds

BLIND_SPEED = 6.0    # [m/s]
# Somewhere on the globe; the world's metres are measured from here.
REFERENCE = navigation.Georeference(35.25, -101.87)


class Still:
  """Does nothing: stands on the brake."""

  def __init__(self, world):
    del world

  def control(self):
    return worlds.Control(brake=1.0)


class Blind:
  """Follows the route at one speed and sees nobody, no light and no sign."""

  def __init__(self, world, speed=BLIND_SPEED, offset=lambda s: 0.0):
    """Args: speed [m/s]; offset: metres of the route -> metres to its right.
    """
    self._world, self._speed, self._offset = world, speed, offset

  def control(self):
    state = self._world.state()
    throttle, brake = actors.Ego.pedals(
        min(max(2.0 * (self._speed - state.speed), -4.0), 3.0), state.speed)
    return worlds.Control(float(throttle), expert.pursue(
        self._world.scene.route, state, self._offset),
        float(brake))


YARDSTICKS = {"still": Still, "blind": Blind, "expert": expert.Expert}


class Policy:
  """A policy behind data_pipeline.driver.Driver, as in CARLA.

  Attributes:
    answer: the policy's last one. driver: the Driver.
  """

  def __init__(self, world, ask, image_size, quality, disturbed=None):
    """Args: ask: observation -> answer; image_size: of the policy [px];
    quality: of the JPEGs that the policy was trained on; disturbed: (kind,
    severity) of disturb.LEVELS."""
    self._world, self._ask, self.answer = world, ask, None
    self._disturbance = (disturb.Disturbance(*disturbed, world.seed)  # pyright: ignore[reportCallIssue]
                         if disturbed else None)
    width, height = world.size
    nodes, _ = planner.sparse(world.scene.route)
    self.driver = driver.Driver(
        ticks.Buffer(REFERENCE, nodes), control.Controller(),
        lambda frames: [prepare(f, image_size, quality) for f in frames],
        self._plan, frame_shape=(height, width, 3),
        timeout_s=math.inf)  # the world waits: nothing depends on the clock

  def control(self):
    state, off = self._world.state(), self._disturbance
    gnss, speed = state.gnss, state.speed
    if off:
      gnss, speed = off.gnss(gnss), off.speed(speed)
    said = worlds.Control(*self.driver.step(ticks.Reading(
        REFERENCE.to_gps(*gnss), state.compass, speed, state.acceleration,
        state.angular_velocity), self._cameras()))
    return off.control(said) if off else said

  def _plan(self, observation):
    self.answer = self._ask(observation)
    return self.answer

  def _cameras(self):
    """Frames of the coming tick; none where nobody looks at them."""
    tick = self.driver.tick + 1
    if tick < ticks.TICKS - ticks.PLAN_EVERY or (
        (tick - ticks.TICKS) % ticks.PLAN_EVERY):
      return dict.fromkeys(spec.CAMERA_FOLDERS)
    frames = self._world.cameras()
    return self._disturbance.cameras(frames) if self._disturbance else frames

  def summary(self):
    """The Driver's, without what depends on the machine."""
    said = self.driver.summary()
    return {key: said[key] for key in ("ticks", "faults", "held_ticks",
                                       "stops", "overrides")}


def prepare(pixels, size, quality):
  """A frame [H,W,3] RGB -> [S,S,3] as training reads it from a recording."""
  _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [
      cv2.IMWRITE_JPEG_QUALITY, quality])
  with Image.open(io.BytesIO(data.tobytes())) as image:
    return np.asarray(image.resize(
        (size, size), Image.Resampling.BILINEAR).convert("RGB"))


def check(metadata):
  """Image size of a policy that can drive here.

  Raises:
    ConfigError: it looks at other images, or plans too short a way.
  """
  wanted = {"history": len(ticks.PAST),
            "images": [list(image) for image in spec.IMAGES]}
  for key, value in wanted.items():
    if metadata.get(key) != value:
      raise errors.ConfigError(
          f"the policy has {key} {metadata.get(key)!r}, the world gives "
          f"{value!r}; drive with a run of that {key}")
  if metadata["horizon"] <= control.SPEED_ROW:
    raise errors.ConfigError(
        f"the policy plans {metadata['horizon']} points, the controller needs "
        f"more than {control.SPEED_ROW}; train with another model.horizon")
  return metadata["image_size"]
