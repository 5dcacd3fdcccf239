"""Drives a car from tick to tick: sensors in, pedals out, a stop in doubt.

Every second tick it asks for a plan, between them the last control stays, as
in the release. Where there is no plan to be believed the last one goes on for
a moment, then the car stops and stays until all has been well for a while:
safety.Guard. Every fault is named and counted. Free of any simulator, Python
3.7's syntax: the CARLA agent runs this file.
"""

import collections
import logging
import math
import time

import numpy as np

from data_pipeline import (
  control,
  errors,
  navigation,
  safety,
  sensor_watch,
  spec,
  ticks,
)

logger = logging.getLogger(__name__)

STOP = control.Control(0.0, 0.0, 1.0)
SAY_EVERY = 100    # ticks before the same fault is logged again
KEPT_STOPS = 1000  # of a drive, in the summary


class Driver:
  """The loop around a policy; call `step` once a tick."""

  def __init__(self, buffer, controller, prepare, ask, *,
               frame_shape=(900, 1600, 4), limits=safety.DEFAULTS,
               timeout_s=10.0):
    """Args:
      buffer: ticks.Buffer of the route.
      controller: control.Controller.
      prepare: list of camera frames -> list of [S,S,3] uint8 RGB; see
        sensor_images.Preparer.
      ask: observation -> answer, see drivemoe_jax.policy; raises ticks.Fault
        or errors.UserError where there is no plan.
      frame_shape: of a camera frame, uint8; another one is a fault.
      limits: safety.Limits.
      timeout_s: a plan that took longer is not followed.
    """
    self._frame_shape, self._timeout_s = frame_shape, timeout_s
    self._buffer, self._controller = buffer, controller
    self._prepare, self._ask = prepare, ask
    self._limits, self._guard = limits, safety.Guard(limits)
    self._clock = sensor_watch.Clock()
    self._numbers = sensor_watch.Numbers(limits)
    self._pictures = sensor_watch.Pictures(limits)
    self._front = (-1, None)     # (tick, prepared front image)
    self._kind, self._said = None, {}  # of the last fault; when it was told
    self._stale = 0              # ticks in a row that were out of order
    self.control = STOP
    self.tick = -1
    self.plan = None             # the last one that was followed, [R,2] m
    self._planned = -1           # its tick
    self.faults = collections.Counter()
    self.held = 0                # ticks that the last plan was stretched
    self.stops = []              # {"tick", "kind", "ticks"}
    self.times_ms = {"preprocess": [], "ask": []}

  @property
  def due(self):
    """Whether the present tick is one that is planned on."""
    return (self.tick >= ticks.TICKS
            and (self.tick - ticks.TICKS) % ticks.PLAN_EVERY == 0)

  def step(self, reading, cameras, time_s=None):
    """One tick.

    Args:
      reading: ticks.Reading.
      cameras: {name of spec.CAMERA_FOLDERS: frame, or None where it is
        missing}.
      time_s: simulated seconds, where there is a clock to be checked.

    Returns:
      control.Control.
    """
    order = self._clock(time_s)
    if order == "stale":
      return self._ignore(time_s)
    self._stale = 0
    self.tick += 1
    placed = False               # whether the car knows how it moves
    try:
      if order == "gap":
        self._forget()
        raise ticks.Fault("time", f"ticks before {time_s:g} s are missing; "
                          f"{ticks.TICK_S:g} s between two are wanted")
      self._buffer.add(reading)
      self._numbers.check(reading, self._buffer.last)
      placed = True
      if self.due:
        self._follow(cameras)
      elif self.tick == ticks.TICKS - ticks.PLAN_EVERY:
        self._look({spec.IMAGES[0][0]: cameras[spec.IMAGES[0][0]]})
    except ticks.Fault as fault:
      if not placed and fault.kind.endswith("_frozen"):
        self._buffer.forget()    # its past is false
      self._suffer(fault.kind, fault, not placed)
    except errors.UserError as error:
      self._suffer(error.code, error, not placed)
    self._obey()
    return self.control

  def _ignore(self, time_s):
    """A tick out of order: nothing of it is taken."""
    self._stale += 1
    late = (self._stale - 0.5) * ticks.TICK_S > self._limits.hold_s
    if late:  # a clock that was set back is believed from here on
      self._clock.forget()
      self._forget()
    self._suffer("time", f"a tick at {time_s!s:.40} s is not after the last",
                 late)
    if late:
      self._obey()
    return self.control

  def _forget(self):
    self._buffer.forget()
    self._numbers.forget()

  def _follow(self, cameras):
    """Looks, asks for a plan and takes its control."""
    images = self._images(cameras)
    observation = {"images": images, "proprio": self._buffer.proprio(),
                   "step": self.tick, "augment": self._buffer.options.augment}
    start = time.perf_counter()
    answer = self._ask(observation)
    seconds = time.perf_counter() - start
    self.times_ms["ask"].append(1e3 * seconds)
    if seconds > self._timeout_s:
      raise ticks.Fault("late", f"the plan took {seconds:.2f} s, "
                        f"{self._timeout_s:g} s at most")
    if not isinstance(answer, dict) or "actions" not in answer:
      raise ticks.Fault("server", "an answer without actions")
    plan, speed = control.check_plan(answer["actions"]), self._buffer.speed
    why, = safety.implausible(plan[None], [speed], self._limits)
    if why:
      raise ticks.Fault("plan", f"the plan {why}")
    before = self._guard.state
    if self._guard.good():
      if before == "stop":
        logger.warning("tick %d: driving", self.tick)
      self.plan, self._planned = plan, self.tick
      self.control = self._controller.follow(plan, speed)

  def _images(self, cameras):
    """[7,S,S,3] uint8 in the order of spec.IMAGES."""
    before, earlier = self._front
    start = time.perf_counter()
    now = self._look(cameras)
    self.times_ms["preprocess"].append(1e3 * (time.perf_counter() - start))
    if before != self.tick - ticks.PLAN_EVERY:
      raise ticks.Fault("camera", "no front image of 0.1 s ago")
    return np.stack([earlier if lag else now[name]  # pyright: ignore[reportCallIssue]
                     for name, lag in spec.IMAGES])

  def _look(self, cameras):
    """{name: prepared image}; remembers the front one."""
    bad = {name: _show(frame) for name, frame in cameras.items()
           if _show(frame) != f"uint8{self._frame_shape}"}
    good = {name: frame for name, frame in cameras.items() if name not in bad}
    fault = ticks.Fault("camera", f"cameras gave {bad}, want uint8"
                        f"{self._frame_shape}") if bad else None
    for kind, names in self._pictures.look(good, self._buffer.speed).items():
      fault = fault or ticks.Fault(kind, f"{', '.join(names)}: "
                                   f"{sensor_watch.PICTURES[kind]}")
      good = {name: x for name, x in good.items() if name not in names}
    front = spec.IMAGES[0][0]
    if fault:  # the front image may be needed 0.1 s from now
      good = {name: frame for name, frame in good.items() if name == front}
    images = dict(zip(good, self._prepare(list(good.values()))))
    if front in images:
      self._front = (self.tick, images[front])
    if fault:
      raise fault
    return images

  def _suffer(self, kind, why, at_once):
    """Takes note of a fault; what it means is the guard's to say."""
    self.faults[kind] += 1
    self._kind = kind
    before = self._guard.state
    self._guard.bad(self.tick, at_once)
    if self.tick - self._said.get(kind, -SAY_EVERY) >= SAY_EVERY or (
        before != "stop" and self._guard.state == "stop"):
      self._said[kind] = self.tick
      does = {"start": "waiting", "hold": "the last plan goes on",
              "stop": "braking"}.get(self._guard.state, "ignored")
      logger.warning("tick %d: %s: %s", self.tick, does, why)
    self._note_stop(before)

  def _note_stop(self, before):
    """Begins a stop where the guard did; wheels stay as they are."""
    if self._guard.state == "stop" and before != "stop":
      self._controller.reset()
      if len(self.stops) < KEPT_STOPS:
        self.stops.append({"tick": self.tick, "kind": self._kind, "ticks": 0})

  def _obey(self):
    """The control of this tick in a hold or a stop."""
    before = self._guard.state
    self._guard.look(self.tick)
    if before == "hold" and self._guard.state == "stop":
      logger.warning("tick %d: braking: no plan for %g s", self.tick,
                     self._limits.hold_s)
      self._note_stop(before)
    if self._guard.state == "stop":
      self.stops[-1]["ticks"] += 1
      self.control = control.Control(0.0, self.control.steer,
                                     self._guard.brake(self.tick))
    elif self._guard.state == "hold":
      self.held += 1
      if self.due:
        self.control = self._controller.follow(self._moved(),
                                               self._buffer.speed)

  def _moved(self):
    """The last plan as seen from where the car is now: [R,2]."""
    count = self.tick - self._planned
    way, then, now = self._buffer.moved(count)
    cos, sin = math.cos(then), math.sin(then)
    world = self.plan.dot(np.array([[cos, sin], [-sin, cos]]))
    rest = navigation.to_ego(world, way, now)[count // ticks.PLAN_EVERY:]
    missing = len(self.plan) - len(rest)
    ahead = np.arange(1, missing + 1)[:, None] * (rest[-1] - rest[-2])
    return np.concatenate([rest, rest[-1] + ahead])

  def summary(self):
    """What happened, for a log: ticks, faults by kind, stops, how often the
    controller overruled the plan, and times."""
    times = {name: {f"p{q}": float(np.percentile(values, q)) for q in (50, 95)}
             for name, values in self.times_ms.items() if values}
    return {"ticks": self.tick + 1, "faults": dict(self.faults),
            "held_ticks": self.held, "stops": self.stops,
            "safety": self._limits._asdict(), "timeout_s": self._timeout_s,
            "controller": {
                key: None if value == math.inf else value  # JSON has no such
                for key, value in self._controller.config._asdict().items()},
            "overrides": self._controller.overrides.summary(),
            "options": self._buffer.options._asdict(),
            "preprocess_ms": times.get("preprocess"),
            "ask_ms": times.get("ask")}


def _show(frame):
  """dtype and shape of a camera frame, or what it is instead."""
  if isinstance(frame, np.ndarray):
    return f"{frame.dtype}{frame.shape}"
  return "nothing" if frame is None else type(frame).__name__
