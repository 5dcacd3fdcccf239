"""From a plan to pedals and steering: the PID controllers and their caps.

Numpy only and Python 3.7's syntax: the CARLA agent and programs with the model
in the same process share this file. Constants are those of the release's
agent; `Overrides` counts how often they overrule the plan. Axes: R rows of a
plan, 0.1 s apart, row 0 now.
"""

import collections
import math

import numpy as np

from data_pipeline import errors

Control = collections.namedtuple("Control", "throttle steer brake")
Control.__doc__ = """Pedals 0..1, steer -1..1, right positive."""

SPEED_ROW = 7        # the plan's speed is taken from rows 0 to this one
SPEED_FACTOR = 2.0   # per metre of that; 1.4 times the speed, and tuned so


class Config(collections.namedtuple("Config", (
    "name", "steer_gains", "speed_gains", "window", "brake_speed",
    "brake_ratio", "max_error", "max_throttle", "slow_aim", "fast_aim",
    "aim_speed", "turn_steer", "turn_limit", "straight_limit",
    "capped_throttle"))):
  """A controller by name.

  Attributes:
    steer_gains, speed_gains: Kp, Ki, Kd. window: plans that Ki averages.
    brake_speed: plans slower than this brake [m/s]. brake_ratio: speed over
      planned speed above which it brakes.
    max_error: bound on the speed error [m/s]. max_throttle: 0..1.
    slow_aim, fast_aim: steer at the first waypoint this far away [m], for
      plans below and above aim_speed [m/s].
    turn_steer: |steer| above which turn_limit [m/s] holds, below it
      straight_limit; faster than that throttle is capped_throttle at most.
  """


_RELEASE = Config(
    name="drivemoe", steer_gains=(1.25, 0.75, 0.3),
    speed_gains=(5.0, 0.5, 1.0), window=20, brake_speed=0.1, brake_ratio=1.1,
    max_error=0.25, max_throttle=0.75, slow_aim=5.5, fast_aim=8.5,
    aim_speed=5.5, turn_steer=0.15, turn_limit=4.5, straight_limit=7.0,
    capped_throttle=0.05)
CONTROLLERS = {config.name: config for config in (
    _RELEASE,
    # How much of a score is the caps' doing? The same without them.
    _RELEASE._replace(name="drivemoe_uncapped", turn_limit=math.inf,
                      straight_limit=math.inf))}


class Pid:
  """A controller whose integral is the mean over the last `window` errors."""

  def __init__(self, gains, window):
    self._gains = gains
    # Zeros at first, as in the family of agents that the release stems from.
    self._errors = collections.deque([0.0] * window, maxlen=window)

  def step(self, error):
    """Error -> correction."""
    kp, ki, kd = self._gains
    self._errors.append(error)
    return (kp * error + ki * sum(self._errors) / len(self._errors)
            + kd * (self._errors[-1] - self._errors[-2]))


class Overrides:
  """Counts plans, and those that the controller did not carry out.

  A plan is overruled by `speed_cap` where a cap lowered the throttle, by
  `brake` where the car brakes although the plan moves, by `steer_limit` where
  full lock is less than the plan asks for.
  """

  KINDS = ("speed_cap", "brake", "steer_limit")

  def __init__(self):
    self.plans = self.overruled = 0
    self.counts = dict.fromkeys(self.KINDS, 0)

  def add(self, kinds):
    """Counts one plan and what overruled it."""
    self.plans += 1
    self.overruled += bool(kinds)
    for kind in kinds:
      self.counts[kind] += 1

  def summary(self):
    """{"plans", "overruled", "rate": share or None, kind: count...}."""
    rate = self.overruled / self.plans if self.plans else None
    return dict(self.counts, plans=self.plans, overruled=self.overruled,  # pyright: ignore[reportCallIssue]
                rate=rate)


class Controller:
  """Follows one plan after another; its memory is that of its two PIDs."""

  def __init__(self, name="drivemoe"):
    """Raises ConfigError for a name that is not in CONTROLLERS."""
    if name not in CONTROLLERS:
      raise errors.ConfigError(f"unknown controller {name!r}; known: "
                               f"{', '.join(sorted(CONTROLLERS))}")
    self.config = CONTROLLERS[name]
    self.overrides = Overrides()
    self.reset()

  def reset(self):
    """Forgets past errors, not what was counted."""
    c = self.config
    self._steer = Pid(c.steer_gains, c.window)
    self._speed = Pid(c.speed_gains, c.window)

  def follow(self, plan, speed):
    """One step.

    Args:
      plan: [R,2] m, ego frame (forward, right), R > SPEED_ROW.
      speed: of the car [m/s].

    Returns:
      Control.

    Raises:
      DataError: a plan of another shape, or one that is not finite.
    """
    plan = check_plan(plan)
    c, kinds = self.config, set()
    wanted = math.hypot(*(plan[SPEED_ROW] - plan[0])) * SPEED_FACTOR
    brake = wanted < c.brake_speed or speed / wanted > c.brake_ratio
    error = min(max(wanted - speed, 0.0), c.max_error)
    throttle = min(max(self._speed.step(error), 0.0), c.max_throttle)
    turn = self._steer.step(self._angle(plan, wanted, speed))
    steer = min(max(turn, -1.0), 1.0)
    if brake:
      throttle = 0.0
      if wanted >= c.brake_speed:
        kinds.add("brake")
    limit = c.turn_limit if abs(steer) > c.turn_steer else c.straight_limit
    if speed > limit and throttle > c.capped_throttle:
      throttle = c.capped_throttle
      kinds.add("speed_cap")
    if abs(turn) > 1.0:
      kinds.add("steer_limit")
    self.overrides.add(kinds)
    return Control(float(throttle), float(steer), float(brake))

  def _angle(self, plan, wanted, speed):
    """Bearing of the waypoint to steer at, in quarter turns to the right."""
    if speed < 0.01:
      return 0.0
    c = self.config
    aim = c.slow_aim if wanted < c.aim_speed else c.fast_aim
    far = np.hypot(plan[:, 0], plan[:, 1]) >= aim          # [R]
    x, y = plan[np.argmax(far) if far.any() else -1]
    return math.degrees(math.atan2(y, x)) / 90.0


def check_plan(plan):
  """Returns [R,2] float64; DataError for anything that is no plan."""
  plan = np.asarray(plan)
  if (plan.ndim != 2 or plan.shape[1] != 2 or len(plan) <= SPEED_ROW
      or plan.dtype.kind != "f" or not np.isfinite(plan).all()):
    raise errors.DataError(
        f"a plan of {plan.dtype}{plan.shape} is not [more than {SPEED_ROW}, 2]"
        " finite numbers; check the model's horizon")
  return plan.astype(np.float64)
