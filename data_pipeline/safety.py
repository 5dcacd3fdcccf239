"""What a plan may ask for, and how a car comes to a stop when there is none.

Numpy only and Python 3.7's syntax: the CARLA agent runs this file, and
training looks at recorded plans with it. Axes: R rows of a plan, 0.1 s apart.
"""

import collections
import math

import numpy as np

from data_pipeline import errors

ROW_S = 0.1
TICK_S = 0.05            # as ticks.TICK_S
LONGEST_HOLD_S = 0.4     # the past and the plan do not reach farther


class Limits(collections.namedtuple("Limits", (
    "acceleration_mps2", "turn_radius_m", "start_m", "slack_m", "jump_m",
    "hold_s", "recover_plans", "brake_first", "brake_ramp_s", "frozen_s",
    "moving_mps", "blank_levels"))):
  """When a plan or a sensor is not believed, and what happens then.

  Attributes:
    acceleration_mps2: no car gains or turns harder: friction of 1 times g.
    turn_radius_m: no car turns tighter (a mid-size one needs 5.5 m).
    start_m: how far from the car a plan may begin.
    slack_m: what the two first limits allow on top, for noise.
    jump_m: second difference of three rows, which is 0.1 m at the limit of
      acceleration; the rest is for noise.
    hold_s: a missing plan is bridged by the last one for so long.
    recover_plans: good ones in a row that end a stop.
    brake_first, brake_ramp_s: pedal at the start of a stop, and the time in
      which it grows to 1.
    frozen_s: a sensor that repeats itself for so long on a moving car is dead.
    moving_mps: speed from which a car counts as moving.
    blank_levels: a camera frame shows nothing if all of it is so near to
      black, or to white, of 255.
  """

  def check(self):
    """Returns itself; ConfigError for a value that makes no sense."""
    for name, value in self._asdict().items():
      number = type(value) in (int, float) and 0 <= value < math.inf
      most = {"hold_s": LONGEST_HOLD_S, "brake_first": 1.0}.get(name, math.inf)
      if not number or value > most or (
          name == "recover_plans" and (value != int(value) or value < 1)):
        raise errors.ConfigError(
            f"safety.{name} is {value!r}; give a number from "
            f"{1 if name == 'recover_plans' else 0} to {most:g}, see "
            "docs/carla.md")
    return self


DEFAULTS = Limits(
    acceleration_mps2=9.81, turn_radius_m=4.0, start_m=1.0, slack_m=1.0,
    jump_m=1.0, hold_s=0.3, recover_plans=5, brake_first=0.4, brake_ramp_s=0.5,
    frozen_s=1.0, moving_mps=1.0, blank_levels=2)


def limits(**changes):
  """Limits by name, the others as in DEFAULTS.

  Raises:
    ConfigError: an unknown name or a value that makes no sense.
  """
  unknown = sorted(set(changes) - set(Limits._fields))
  if unknown:
    raise errors.ConfigError(f"unknown safety limits {unknown}; known: "
                             f"{', '.join(Limits._fields)}")
  return DEFAULTS._replace(**changes).check()


def implausible(plans, speed, choice=DEFAULTS, first_row=0):
  """What in plans no car can do: [M,R,2] m, [M] m/s -> [M] str.

  A plan that stops is always believed, however hard. From the road that a car
  at this speed would cover, plans may deviate forwards and to the side by
  a t^2 / 2; to the side also by s^2 / 2r on s metres of way: a circle. Both
  are seen from the plan's own start.

  Args:
    plans: ego frame (forward, right). speed: of the car.
    choice: Limits. first_row: of the plan's rows; 1 where now is left out.

  Returns:
    A word and the two numbers, for the first fault; "" for a good plan.
  """
  plans = np.asarray(plans, np.float64)
  speed = np.asarray(speed, np.float64)[:, None]
  time = ROW_S * (first_row + np.arange(plans.shape[-2]))  # [R]
  start = np.hypot(plans[:, :1, 0], plans[:, :1, 1])     # [M,1]
  if first_row == 0:
    plans = plans - plans[:, :1]
  x, y = plans[..., 0], plans[..., 1]                    # [M,R]
  steps = np.diff(plans, axis=1)
  way = np.cumsum(np.hypot(steps[..., 0], steps[..., 1]), 1)
  way = np.concatenate([np.zeros_like(start), way], 1) + np.hypot(
      x, y)[:, :1]                                       # [M,R]
  bend = np.diff(steps, axis=1)
  c = choice
  faults = (
      ("starts", start, c.start_m + first_row * ROW_S * np.abs(speed),
       "m from the car"),
      ("reaches", np.hypot(np.maximum(x - speed * time, 0), y),
       c.acceleration_mps2 * time ** 2 / 2 + c.slack_m,
       "m off what its speed allows"),
      ("backs", np.minimum(speed * time, 0) - x, c.start_m, "m"),
      ("turns", np.abs(y), way ** 2 / 2 / max(c.turn_radius_m, 1e-9)
       + c.slack_m, "m aside on too short a way"),
      ("jumps", np.hypot(bend[..., 0], bend[..., 1]), c.jump_m,
       "m between rows"))
  found = np.full(len(plans), "", dtype=object)
  for word, value, most, unit in faults:
    over = value - most                                  # [M,rows]
    bad = ~(over <= 0).all(1) & (found == "")
    for i in np.flatnonzero(bad):
      row = np.argmax(over[i])
      limit = np.broadcast_to(most, value.shape)[i][row]
      found[i] = f"{word} {value[i][row]:.1f} {unit}, {limit:.1f} at most"
  return found


class Guard:
  """Whether a car follows its plans, bridges a missing one, or stops.

  `state` is "start" (braking, before the first plan), "drive", "hold" (the
  last plan goes on) or "stop", which ends after Limits.recover_plans.
  """

  def __init__(self, choice=DEFAULTS):
    self._limits, self.state = choice, "start"
    self._since = self._good = 0

  def good(self):
    """Takes note of a plan that is to be believed; whether to follow it."""
    if self.state == "stop":
      self._good += 1
      if self._good < self._limits.recover_plans:
        return False
    self.state = "drive"
    return True

  def bad(self, tick, at_once=False):
    """Takes note that there is none; at_once where none can be bridged."""
    self._good = 0
    if self.state == "drive":
      self.state, self._since = "hold", tick
    if at_once and self.state == "hold":
      self.state, self._since = "stop", tick
    self.look(tick)

  def look(self, tick):
    """Ends a hold that lasted long enough; call it every tick."""
    held = (tick - self._since) * TICK_S
    if self.state == "hold" and held >= self._limits.hold_s - TICK_S / 2:
      self.state, self._since = "stop", tick

  def brake(self, tick):
    """The pedal of a stop, 0..1."""
    ramp = max(self._limits.brake_ramp_s, 1e-9)
    share = min((tick - self._since) * TICK_S / ramp, 1.0)
    first = self._limits.brake_first
    return first + (1.0 - first) * share
