"""Sensors that answer and yet say nothing: frozen, blank, out of order.

Repeating itself is no fault of a sensor, only doing so while the others show
that the car moves. What was found frozen stays so until it changes, or a
stopped car would trust it again. Numpy only and Python 3.7's syntax: the CARLA
agent runs this file.
"""

import collections
import math
import zlib

import numpy as np

from data_pipeline import navigation, ticks

LOOK_S = ticks.TICK_S * ticks.PLAN_EVERY
COLUMNS = 400            # of a camera frame are looked at, at least
AVERAGED = 5             # positions, whose noise is 0.56 m each
WAY_OFF_M = 3.0          # GPS against a speed that repeats itself
SPEED_OFF_MPS = 1.5      # speed against an acceleration that does
COURSE_OFF = 0.5         # rad, GPS against a compass that does,
COURSE_LEAST_M = 4.0     # on at least such a way
PICTURES = collections.OrderedDict((
    ("camera_blank", "all black or all white"),
    ("camera_frozen", "the same picture although the car moves")))


class Clock:
  """Whether ticks come one by one, in their order."""

  def __init__(self):
    self._last = None

  def __call__(self, time_s):
    """Simulated seconds -> "next", "stale" (not after the last one, to be
    ignored) or "gap" (ticks are missing). None is always next."""
    if time_s is None:
      return "next"
    try:
      time_s = float(time_s)
    except (TypeError, ValueError):
      return "stale"
    if not math.isfinite(time_s):
      return "stale"
    if self._last is None:
      self._last = time_s
      return "next"
    passed = (time_s - self._last) / ticks.TICK_S
    if passed < 0.5:
      return "stale"
    self._last = time_s
    return "next" if passed <= 1.5 else "gap"

  def forget(self):
    """Takes the next tick's time as it comes."""
    self._last = None


class Numbers:
  """GPS, IMU and speed that stand still on a moving car."""

  def __init__(self, limits):
    self._limits = limits
    self._span = max(2, round(limits.frozen_s / ticks.TICK_S))  # ticks
    self._past = collections.deque(maxlen=self._span + 1)
    self._dead = {}            # kind -> what it repeats

  def check(self, reading, tick):
    """Looks at one tick.

    Args:
      reading: ticks.Reading as it came. tick: ticks.Tick, as repaired.

    Raises:
      ticks.Fault: gps_frozen, speed_frozen or imu_frozen.
    """
    said = {"gps_frozen": _bytes(reading.gps),
            "speed_frozen": _bytes(reading.speed),
            "imu_frozen": _bytes(reading.acceleration, reading.angular_velocity,
                                 reading.compass)}
    if any(self._dead[kind] != said[kind] for kind in self._dead):
      self.forget()  # what it said is nothing to compare with
    self._past.append((said, tick))
    judge = {"gps_frozen": self._gps, "speed_frozen": self._speed,
             "imu_frozen": self._imu}
    for kind, value in said.items():
      if self._dead.get(kind) == value and value is not None:
        raise ticks.Fault(kind, f"{kind[:-7]} still repeats itself")
      self._dead.pop(kind, None)
      if self._repeats(kind) and judge[kind]():
        self._dead[kind] = value
        raise ticks.Fault(kind, f"{kind[:-7]} repeats itself for "
                          f"{self._span} ticks on a moving car")

  def forget(self):
    """Drops the past; what was dead stays so."""
    self._past.clear()

  def _repeats(self, kind):
    values = [said[kind] for said, _ in self._past]
    return (len(values) > self._span and values[0] is not None
            and all(value == values[0] for value in values))

  def _gps(self):
    return all(t.speed > self._limits.moving_mps for _, t in self._past)

  def _speed(self):
    way, seconds = self._way()
    speed = self._past[-1][1].speed
    return abs(math.hypot(*way) - abs(speed) * seconds) > WAY_OFF_M

  def _imu(self):
    first, last = self._past[0][1], self._past[-1][1]
    gained = first.acceleration[0] * self._span * ticks.TICK_S
    if abs(last.speed - first.speed - gained) > SPEED_OFF_MPS:
      return True
    way, _ = self._way()
    course = math.atan2(way[1], way[0])
    return (math.hypot(*way) > COURSE_LEAST_M and last.speed > 0
            and abs(navigation.wrap(course - last.heading)) > COURSE_OFF)

  def _way(self):
    """([2] m, seconds) between the means of the first and last positions."""
    places = np.array([t.position for _, t in self._past])
    count = min(AVERAGED, len(places) // 2)
    return (places[-count:].mean(0) - places[:count].mean(0),
            (len(places) - count) * ticks.TICK_S)


class Pictures:
  """Cameras that show nothing, or the same although the car moves.

  Other single colours are left to the second rule: a plain wall is one, too.
  """

  def __init__(self, limits):
    self._limits = limits
    self._looks = max(1, round(limits.frozen_s / LOOK_S))
    self._last, self._count = {}, collections.Counter()

  def look(self, frames, speed):
    """What is wrong with the frames of a planned tick.

    Args:
      frames: {camera: [height, width, 4] uint8}. speed: of the car [m/s].

    Returns:
      {a kind of PICTURES: names of cameras}, without those kinds that none is
      of.
    """
    found = {kind: [] for kind in PICTURES}
    for name, frame in frames.items():
      step = max(1, frame.shape[1] // COLUMNS)
      pixels = np.ascontiguousarray(frame[::step, ::step, :3])
      if min(pixels.max(), 255 - pixels.min()) <= self._limits.blank_levels:
        found["camera_blank"].append(name)
      elif self._repeats(name, zlib.crc32(pixels), speed):
        found["camera_frozen"].append(name)
    return {kind: names for kind, names in found.items() if names}

  def _repeats(self, name, value, speed):
    same, self._last[name] = self._last.get(name) == value, value
    if not same:
      self._count[name] = 0
    elif self._count[name] < self._looks:  # else it stays frozen
      moving = speed > self._limits.moving_mps
      self._count[name] = self._count[name] + 1 if moving else 0
    return self._count[name] >= self._looks


def _bytes(*values):
  """What numbers look like, or None where one is no number."""
  try:
    found = np.concatenate([np.ravel(np.asarray(v, np.float64))
                            for v in values])
  except (TypeError, ValueError):
    return None
  return found.tobytes() if np.isfinite(found).all() else None
