"""Disturbs a policy's senses and hands, after Bench2Drive-Robust's kinds.

  drops     bursts of camera frames that repeat the last one
  cameras   side and rear cameras that give nothing
  gps       noise on the position
  speed     a factor on the speed, drawn anew every tick
  latency   pedals and steering arrive ticks later

Each has severities 1 to 3. What is drawn follows from the scene's seed.
"""

import collections
import zlib

import numpy as np

from data_pipeline import errors, spec
from data_pipeline.miniworld import world as worlds

LEVELS = {
    "drops": ((0.05, 3), (0.10, 5), (0.20, 8)),  # share of plans, plans
    "cameras": (1, 2, 4),                        # how many
    "gps": (0.5, 1.0, 2.0),                      # deviation [m]
    "speed": (0.1, 0.2, 0.4),                    # deviation
    "latency": (2, 4, 8),                        # ticks of 0.05 s
}
UNITS = {"drops": "share of plans at which a burst begins, plans it lasts",
         "cameras": "cameras", "gps": "m", "speed": "of the speed",
         "latency": "ticks of 0.05 s"}
FRONT = spec.IMAGES[0][0]


def check(kind, level):
  """Raises ConfigError for a disturbance that does not exist."""
  if kind not in LEVELS or not 1 <= level <= len(LEVELS[kind]):
    raise errors.ConfigError(
        f"disturbance {kind}-{level}: choose one of {', '.join(LEVELS)} and a "
        "severity from 1 to 3")


class Disturbance:
  """One kind at one severity, for one drive."""

  def __init__(self, kind, level, seed):
    check(kind, level)
    self._kind, self._value = kind, LEVELS[kind][level - 1]
    self._rng = np.random.default_rng(
        [seed, level, zlib.crc32(kind.encode())])
    self._last, self._left = None, 0
    sides = [name for name in spec.CAMERA_FOLDERS if name != FRONT]
    self._gone = (set(self._rng.permutation(sides)[:self._value])
                  if kind == "cameras" else set())
    delay = self._value if kind == "latency" else 0
    self._queue = collections.deque([worlds.Control(brake=1.0)] * delay)

  def cameras(self, frames):
    """{name: frame} of a tick that is looked at."""
    if self._kind == "drops":
      if self._left == 0 and self._last is not None and (
          self._rng.random() < self._value[0]):
        self._left = self._value[1]
      if self._left > 0:
        self._left -= 1
        return self._last
      self._last = frames
    return {name: None if name in self._gone else frame
            for name, frame in frames.items()}

  def gnss(self, position):
    """Measured position [2] m."""
    if self._kind != "gps":
      return position
    return position + self._rng.normal(0.0, self._value, 2)

  def speed(self, speed):
    """Measured speed [m/s]."""
    if self._kind != "speed":
      return speed
    return speed * float(1.0 + self._rng.normal(0.0, self._value))

  def control(self, control):
    """What reaches the car now."""
    self._queue.append(control)
    return self._queue.popleft()
