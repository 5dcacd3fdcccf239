"""Drives a car from tick to tick: sensors in, pedals out, braking in doubt.

Every second tick it asks for a plan, between them the last control stays, as
in the release. Whatever is wrong, with a sensor or with the policy, makes it
brake to a stop and say why; it drives on once all is well. Free of any
simulator, Python 3.7's syntax: the CARLA agent runs this file.
"""

import collections
import logging
import time

import numpy as np

from data_pipeline import control, errors, spec, ticks

logger = logging.getLogger(__name__)

STOP = control.Control(0.0, 0.0, 1.0)


class Driver:
  """The loop around a policy; call `step` once a tick."""

  def __init__(self, buffer, controller, prepare, ask, *,
               frame_shape=(900, 1600, 4)):
    """Args:
      buffer: ticks.Buffer of the route.
      controller: control.Controller.
      prepare: list of camera frames -> list of [S,S,3] uint8 RGB; see
        sensor_images.Preparer.
      ask: observation -> answer, see drivemoe_jax.policy; raises ticks.Fault
        or errors.UserError where there is no plan.
      frame_shape: of a camera frame, uint8; another one is a fault.
    """
    self._frame_shape = frame_shape
    self._buffer, self._controller = buffer, controller
    self._prepare, self._ask = prepare, ask
    self._front = (-1, None)     # (tick, prepared front image)
    self._why = None
    self.control = STOP
    self.tick = -1
    self.plan = None             # the last one, [R,2] m
    self.brakes = collections.Counter()
    self.times_ms = {"preprocess": [], "ask": []}

  @property
  def due(self):
    """Whether the present tick is one that is planned on."""
    return (self.tick >= ticks.TICKS
            and (self.tick - ticks.TICKS) % ticks.PLAN_EVERY == 0)

  def step(self, reading, cameras):
    """One tick.

    Args:
      reading: ticks.Reading.
      cameras: {name of spec.CAMERA_FOLDERS: frame, or None where it is
        missing}.

    Returns:
      control.Control.
    """
    self.tick += 1
    try:
      self._buffer.add(reading)
      if self.due:
        self._follow(cameras)
        self._recovered()
      elif self.tick == ticks.TICKS - ticks.PLAN_EVERY:
        self._look({spec.IMAGES[0][0]: cameras[spec.IMAGES[0][0]]})
    except ticks.Fault as fault:
      self._brake(fault.kind, fault)
    except errors.UserError as error:
      self._brake(error.code, error)
    return self.control

  def _follow(self, cameras):
    """Looks, asks for a plan and takes its control."""
    images = self._images(cameras)
    observation = {"images": images, "proprio": self._buffer.proprio(),
                   "step": self.tick, "augment": self._buffer.options.augment}
    start = time.perf_counter()
    answer = self._ask(observation)
    self.times_ms["ask"].append(1e3 * (time.perf_counter() - start))
    if not isinstance(answer, dict) or "actions" not in answer:
      raise ticks.Fault("server", "an answer without actions")
    self.plan = control.check_plan(answer["actions"])
    self.control = self._controller.follow(self.plan, self._buffer.speed)

  def _images(self, cameras):
    """[7,S,S,3] uint8 in the order of spec.IMAGES."""
    before, earlier = self._front
    start = time.perf_counter()
    now = self._look(cameras)
    self.times_ms["preprocess"].append(1e3 * (time.perf_counter() - start))
    if before != self.tick - ticks.PLAN_EVERY:
      raise ticks.Fault("camera", "no front image of 0.1 s ago")
    return np.stack([earlier if lag else now[name]
                     for name, lag in spec.IMAGES])

  def _look(self, cameras):
    """{name: prepared image}; remembers the front one."""
    bad = {name: _show(frame) for name, frame in cameras.items()
           if _show(frame) != f"uint8{self._frame_shape}"}
    good = {name: frame for name, frame in cameras.items() if name not in bad}
    front = spec.IMAGES[0][0]
    if bad:  # the front image may be needed 0.1 s from now
      good = {name: frame for name, frame in good.items() if name == front}
    images = dict(zip(good, self._prepare(list(good.values()))))
    if front in images:
      self._front = (self.tick, images[front])
    if bad:
      raise ticks.Fault("camera", f"cameras gave {bad}, want uint8"
                        f"{self._frame_shape}")
    return images

  def _brake(self, kind, why):
    """Full brake, wheels as they are, until the next plan."""
    self.brakes[kind] += 1
    self.control = STOP._replace(steer=self.control.steer)
    self._controller.reset()
    if kind != self._why:
      logger.warning("tick %d: braking: %s", self.tick, why)
    self._why = kind

  def _recovered(self):
    if self._why is not None:
      logger.warning("tick %d: driving", self.tick)
    self._why = None

  def summary(self):
    """What happened, for a log: ticks, brakes by reason, how often the
    controller overruled the plan, and times."""
    times = {name: {f"p{q}": float(np.percentile(values, q)) for q in (50, 95)}
             for name, values in self.times_ms.items() if values}
    return {"ticks": self.tick + 1, "brakes": dict(self.brakes),
            "controller": self._controller.config._asdict(),
            "overrides": self._controller.overrides.summary(),
            "options": self._buffer.options._asdict(),
            "preprocess_ms": times.get("preprocess"),
            "ask_ms": times.get("ask")}


def _show(frame):
  """dtype and shape of a camera frame, or what it is instead."""
  if isinstance(frame, np.ndarray):
    return f"{frame.dtype}{frame.shape}"
  return "nothing" if frame is None else type(frame).__name__
