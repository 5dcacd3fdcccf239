"""What the expert does besides following its route: around, over, aside.

A manoeuvre plans once a tick, offers an offset to the route's right and a
bound on the acceleration, and says whom it need not follow. `s` is metres
along the route.
"""

import numpy as np

from data_pipeline import control
from data_pipeline.miniworld import seen as eyes
from data_pipeline.miniworld import town as towns
from data_pipeline.miniworld.seen import HALF, WIDTH

BESIDE = 0.9         # room beside an obstacle [m]
LEAST_OFFSET = 2.5   # well beyond the middle of the road [m]
SITE = 14.0          # obstacles within this belong together [m]
CREEP = 4.0          # while somebody is let past [m/s]
TURNING = control.CONTROLLERS["drivemoe"].turn_limit  # at most, then [m/s]
LOOK_BACK = 45.0     # for who wants past [m]


def of(scene):
  """The manoeuvres that a scene may ask for."""
  return [kind(scene) for kind, asked in (
      (Around, scene.bypass), (Over, scene.change),
      (Aside, scene.makes_way_for)) if asked is not None]


class Swerve:
  """Out of the lane from `start`, back in it some metres after return_at."""

  def __init__(self, start, out, offset):
    self._start, self._out, self._offset = start, out, offset
    self._back, self._length = np.inf, 1.0

  def return_at(self, s, length):
    self._back, self._length = s, length

  @property
  def returning(self):
    return np.isfinite(self._back)

  def done(self, s):
    return s > self._back + self._length

  def offset(self, s):
    rise = eyes.smoothstep((s - self._start) / self._out)
    fall = (eyes.smoothstep((s - self._back) / self._length)
            if self.returning else 0)
    return self._offset * (rise - fall)


class Around:
  """Passes what stands in the lane."""

  def __init__(self, scene):
    self._scene, self._swerve, self._around = scene, None, {}

  def offset(self, s):
    return self._swerve.offset(s) if self._swerve else 0.0

  def limit(self, s, v, seen):
    return np.inf

  def ignores(self, other):
    return bool(self._swerve) and other.actor.id in self._around

  def plan(self, s, v, seen):
    ahead = [o for o in seen if o.is_obstacle and s < o.s < s + 45]
    if self._swerve is None:
      if not ahead:
        return
      first = min(ahead, key=lambda o: o.s)
      site = [o for o in ahead if o.s < first.s + SITE]
      gap = first.s - first.half_length - s - HALF
      out = float(np.clip(2.4 * v, 9.0, 18.0))
      if gap < out + 2.0 and self._is_free(s, v, site, seen):
        self._swerve = Swerve(s, out, self._way_around(first))
        self._around = {o.actor.id: o.actor for o in site}
    elif not self._swerve.returning:
      if self._scene.bypass == "same":  # what the first ones hid
        self._around |= {o.actor.id: o.actor for o in ahead}
      if s > max(map(self._end, self._around.values())) - 0.5:
        self._swerve.return_at(s, float(np.clip(2.2 * v, 9.0, 17.0)))
    elif self._swerve.done(s):
      self._swerve = None

  def _end(self, actor):
    return self._scene.route.project(actor.position)[0] + actor.extent[0]

  def _way_around(self, obstacle):
    """Offset that passes an obstacle: a whole lane, or what it takes."""
    if self._scene.bypass == "same":
      return self._scene.bypass_side * towns.LANE
    need = obstacle.half_width + WIDTH + BESIDE - obstacle.lateral
    return -min(max(need, LEAST_OFFSET), towns.LANE)

  def _is_free(self, s, v, site, seen):
    """Is the lane beside free for long enough?"""
    opposing = self._scene.bypass == "opposing"
    beside = self._scene.bypass_side * towns.LANE
    end = max(o.s + o.half_length for o in site) + 2.0 + 13.0
    time = (end - s) / max(0.5 * (v + TURNING), 2.5)
    for other in seen:
      if (other.actor.kind != "vehicle" or other.actor.state == "static"
          or abs(other.lateral - beside) > 1.6):
        continue
      ahead = other.s - s
      bumper = HALF + other.half_length
      if opposing:
        meets = ahead + other.speed * time  # its speed along s is negative
        if ahead > -4.0 and meets < end - s + 5.0:
          return False
      elif ahead >= 0:
        if ahead - bumper < 3.0 + 1.5 * max(v - other.speed, 0.0):
          return False
      elif -ahead - bumper < 4.0 + 2.2 * max(other.speed - v, 0.0):
        return False
    return True


class Over:
  """Changes to the lane that the route leads to, once there is a gap."""

  def __init__(self, scene):
    self._change, self._start, self._length = scene.change, None, 1.0

  def offset(self, s):
    return self._gone(s) - self._change.shift(s)

  def ignores(self, other):
    return False

  def plan(self, s, v, seen):
    if (self._start is None and s >= self._change.start - 2.0
        and all(self._leaves_room(s, v, other) for other in seen)):
      self._start = s
      self._length = float(np.clip(2.4 * v, 9.0, 20.0))

  def limit(self, s, v, seen):
    """Stops where the lane ends; falls behind whoever drives beside."""
    if self._start is not None:
      return np.inf
    best = eyes.halt(v, self._change.deadline - s - HALF)
    if s < self._change.start - 25.0:
      return best
    for other in seen:
      gap = other.s - other.half_length - s - HALF
      if self._in_target(other) and other.s > s - 1.0 and other.speed > 0.5:
        best = min(best, max(eyes.idm(v, other.speed, max(gap + 1.0, 1.5)),
                             -2.0))
    return best

  def _gone(self, s):
    """Metres to the right of the first lane that the plan is at s."""
    if self._start is None:
      return 0.0
    return self._change.across * eyes.smoothstep(
        (s - self._start) / self._length)

  def _in_target(self, other):
    aside = other.lateral + self._change.shift(other.s) - self._change.across
    return other.actor.kind == "vehicle" and abs(aside) < 1.75

  def _leaves_room(self, s, v, other):
    if not self._in_target(other):
      return True
    bumper = HALF + other.half_length
    if other.s >= s:
      return (other.s - s - bumper
              > 1.5 + 1.2 * max(v - other.speed, 0.0))
    return (s - other.s - bumper > 2.0 + 0.35 * max(other.speed, 0.0)
            + 2.0 * max(other.speed - v, 0.0))


class Aside:
  """Lets an emergency vehicle past, in the lane to the right."""

  def __init__(self, scene):
    self._actor, self._swerve, self._behind = scene.makes_way_for, None, False

  def offset(self, s):
    return self._swerve.offset(s) if self._swerve else 0.0

  def ignores(self, other):
    return False

  def limit(self, s, v, seen):
    if self._swerve and not self._swerve.returning and v > CREEP:
      return -1.2
    return np.inf

  def plan(self, s, v, seen):
    mine = [o for o in seen if o.actor is self._actor]
    if self._swerve is None:
      if any(-LOOK_BACK < o.s - s < 0 for o in mine) and not any(
          abs(o.s - s) < 9.0 and abs(o.lateral - towns.LANE) < 1.6
          for o in seen if o.actor.kind == "vehicle"):
        self._swerve = Swerve(s, float(np.clip(2.4 * v, 9.0, 18.0)),
                              towns.LANE)
    elif not self._swerve.returning:
      if any(o.s - o.half_length > s + HALF + 3.0 for o in mine) and not any(
          -14.0 < o.s - s < 6.0 and abs(o.lateral) < 1.6 for o in seen):
        self._swerve.return_at(s, float(np.clip(2.2 * v, 9.0, 17.0)))
