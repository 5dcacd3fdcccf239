"""Simulator ticks to what a policy sees: the last half second, in ego frame.

Numpy only and Python 3.7's syntax: the CARLA agent runs this file. The release
feeds its model otherwise in CARLA than in training, in six ways; each is an
option, whose default is what training saw. None of them can be judged without
the simulator. Axes: P history rows, N route nodes.
"""

import collections
import math

import numpy as np

from data_pipeline import errors, navigation

TICK_S = 0.05            # CARLA runs at 20 Hz, training data at 10 Hz
PLAN_EVERY = 2           # ticks
TICKS = 11               # kept: now and half a second before
PAST = (2, 4, 6, 8, 10)  # of the kept ticks, those that training saw; 10 is now
SENSOR_X = -1.4          # GPS and IMU sit behind the ego's origin [m]
IMU = ("compass", "acceleration", "angular_velocity")
HOLD_TICKS = 10          # a missing reading is bridged for so long
MAX_JUMP = 8.0           # m between a GPS reading and where the car must be;
#                          the noise of one reading has a deviation of 0.56 m
# What a sensor cannot mean: m/s, rad, m/s^2, rad/s. Collisions stay below.
FARTHEST = {"speed": 100.0, "compass": 1e3, "acceleration": 1e4,
            "angular_velocity": 1e3}


class Options(collections.namedtuple("Options", (
    "history_phase", "lever_arm", "nav_plan", "nan_compass", "jpeg_order",
    "augment"))):
  """The six ways in which the release's closed loop differs from its training.

  Attributes:
    history_phase: "training" takes the past at 0, 0.1, ... 0.4 s; "shifted"
      at 0.05, 0.15, ... 0.45 s.
    lever_arm: move the GPS position to the ego's origin, where training has
      it; otherwise it stays 1.4 m behind.
    nav_plan: the next node of the "sparse" plan, as recorded, or of the
      "dense" one, some 8 m ahead. The release's scores used "dense".
    nan_compass: where the compass fails "hold" the last heading, or take
      "zero" for its reading.
    jpeg_order: "bgr" encodes true colours, as recorded; "rgb" swaps red and
      blue for the encoder.
    augment: the policy crops and jitters the images as in training.
  """

  def check(self):
    """Returns itself; ConfigError for a value that does not exist."""
    for name, known in _KNOWN.items():
      value = getattr(self, name)
      if not any(value is v or (isinstance(v, str) and value == v)
                 for v in known):
        raise errors.ConfigError(f"{name} is {value!r}; choose one of {known}")
    return self


# Option -> its values: ours first, the release's second.
_KNOWN = collections.OrderedDict((
    ("history_phase", ("training", "shifted")),
    ("lever_arm", (True, False)),
    ("nav_plan", ("sparse", "dense")),
    ("nan_compass", ("hold", "zero")),
    ("jpeg_order", ("bgr", "rgb")),
    ("augment", (False, True))))
TRAINING = Options(**{name: values[0] for name, values in _KNOWN.items()})
OFFICIAL = Options(**{name: values[1] for name, values in _KNOWN.items()})


def options(official_parity=False, **changes):
  """Options by name; `official_parity` starts from all of the release's.

  Raises:
    ConfigError: an unknown option or value.
  """
  unknown = sorted(set(changes) - set(_KNOWN))
  if unknown:
    raise errors.ConfigError(f"unknown options {unknown}; known: "
                             f"official_parity, {', '.join(_KNOWN)}")
  base = OFFICIAL if official_parity else TRAINING
  return base._replace(**changes).check()


class Fault(Exception):
  """Why there can be no plan now; `kind` is a word for it, to be counted."""

  def __init__(self, kind, text):
    Exception.__init__(self, text)
    self.kind = kind


# What the sensors said in one tick; None for what did not come. gps: latitude
# and longitude [deg]; compass: rad, 0 is north; speed: m/s; acceleration [3]
# m/s^2 and angular_velocity [3] rad/s in the body frame.
Reading = collections.namedtuple(
    "Reading", "gps compass speed acceleration angular_velocity")
# One repaired tick: position [2] m and heading [rad] of the world, target [2]:
# the navigation point in the world.
Tick = collections.namedtuple(
    "Tick", "position heading speed acceleration angular_velocity target")


class Buffer:
  """The last ticks, repaired where a sensor fell out, as model inputs."""

  def __init__(self, reference, nodes, choice=TRAINING):
    """Args:
      reference: navigation.Georeference of the map.
      nodes: [N,2] m, route nodes of the plan that `choice` names.
      choice: Options.
    """
    self.options = choice
    self._reference = reference
    self._planner = navigation.RoutePlanner(nodes)
    self._ticks = collections.deque(maxlen=TICKS)
    self._last = {}            # name -> last good reading
    self._missing = collections.Counter()

  @property
  def full(self):
    return len(self._ticks) == TICKS

  @property
  def speed(self):
    """Of the last tick [m/s]."""
    return self._ticks[-1].speed

  def add(self, reading):
    """Takes one tick.

    Raises:
      Fault: a sensor said nothing usable for longer than HOLD_TICKS; the
        past is then forgotten, so that planning waits for a new half second.
    """
    speed = float(self._held("speed", reading.speed, ()))
    acceleration = self._held("acceleration", reading.acceleration, (3,))
    turning = self._held("angular_velocity", reading.angular_velocity, (3,))
    heading = self._held("compass", reading.compass, ()) - math.pi / 2
    position = self._position(reading.gps, float(heading), speed)
    target = self._planner.target(position)
    self._ticks.append(Tick(position, float(heading), speed, acceleration,
                            turning, target))

  def forget(self):
    """Drops the past, so that planning waits for a new half second."""
    self._ticks.clear()
    self._last.clear()
    self._missing.clear()

  @property
  def last(self):
    """The last Tick."""
    return self._ticks[-1]

  def moved(self, count):
    """How the car moved in the last `count` ticks, by speed and compass.

    GPS is too noisy for such a short way.

    Returns:
      ([2] m in the world, heading then, heading now).
    """
    kept = list(self._ticks)[-1 - count:]
    way = sum((t.speed * TICK_S * np.array([math.cos(t.heading), math.sin(
        t.heading)]) for t in kept[1:]), np.zeros(2))
    return way, kept[0].heading, kept[-1].heading

  def _held(self, name, value, shape):
    """The value, or the last good one in its place."""
    good = _finite(value, shape)
    if self.options.nan_compass == "zero" and name in IMU and (
        good is None and value is not None):
      good = _finite(np.nan_to_num(value), shape)
    if good is not None and np.abs(good).max() > FARTHEST[name]:
      good = None
    return self._bridged(name, good, lambda: self._last[name], lambda: (
        f"is missing, not finite or too large: {value}"))

  def _position(self, gps, heading, speed):
    """World position [2] of GPS, or where the car must be by now."""
    forward = np.array([math.cos(heading), math.sin(heading)])
    good = _finite(gps, (2,))
    why = lambda: f"is missing or not finite: {gps}"
    if good is not None and abs(good[0]) < 85:
      good = self._reference.to_world(*good)
      if self.options.lever_arm:
        good = good - SENSOR_X * forward
      if "gps" in self._last:
        expected = self._last["gps"] + speed * TICK_S * forward
        jump = math.hypot(*(good - expected))
        if jump > MAX_JUMP:
          good, why = None, lambda: f"jumped {jump:.0f} m"
    else:
      good = None
    return self._bridged(
        "gps", good, lambda: self._last["gps"] + speed * TICK_S * forward, why)

  def _bridged(self, name, good, guess, why):
    """Remembers a good value, or bridges a bad one for HOLD_TICKS.

    Args:
      guess, why: called where it is bad: to print an array takes as long as
        the rest of a tick.
    """
    if good is not None:
      self._missing[name] = 0
      self._last[name] = good
      return good
    self._missing[name] += 1
    if name not in self._last or self._missing[name] > HOLD_TICKS:
      # A new start: the next good reading is taken wherever it is.
      self._last.pop(name, None)
      self._ticks.clear()
      raise Fault(name, f"{name} {why()}, for {self._missing[name]} ticks")
    if name == "gps":
      self._last[name] = guess()
      return self._last[name]
    return guess()

  def proprio(self):
    """The past in raw units: [P,10] float32, oldest first.

    Columns as in windows.Windows.proprio: speed, acceleration, angular
    velocity, heading relative to now, navigation point in today's ego frame.

    Raises:
      Fault: the buffer is not full yet.
    """
    if not self.full:
      raise Fault("start", f"{len(self._ticks)} of {TICKS} ticks so far")
    shift = -1 if self.options.history_phase == "shifted" else 0
    past = [self._ticks[i + shift] for i in PAST]
    now = self._ticks[-1]
    rows = [np.concatenate([
        [t.speed], t.acceleration, t.angular_velocity,
        [navigation.wrap(t.heading - now.heading)],
        navigation.to_ego(t.target, now.position, now.heading)]) for t in past]
    return np.array(rows, np.float32)                      # [P,10]


def _finite(value, shape):
  """Float64 of that shape, or None."""
  try:
    value = np.asarray(value, np.float64)
  except (TypeError, ValueError):
    return None
  return value if value.shape == shape and np.isfinite(value).all() else None
