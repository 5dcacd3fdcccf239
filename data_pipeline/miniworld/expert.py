"""A rule-based driver: IDM, pure pursuit and gap acceptance.

It reacts only to what a camera could see (line of sight), unless told to see
all. It is a teacher for imitation, so it is brisk but never reckless: it must
finish every scenario without touching anything.

Axes: N route samples. `s` is metres along the route, offsets are to the right.
"""

import math

import numpy as np

from data_pipeline.miniworld import actors, paths
from data_pipeline.miniworld import town as towns
from data_pipeline.miniworld import world as worlds

HALF, WIDTH = actors.EGO_EXTENT[0], actors.EGO_EXTENT[1]
LATERAL = 5.6        # comfortable lateral acceleration [m/s^2]
PULL, EASE = 3.0, 3.5  # acceleration, comfortable braking [m/s^2]
EMERGENCY = 6.0      # least braking for a person [m/s^2]
HEADWAY, STANDSTILL = 0.9, 3.0  # IDM gap [s], [m]
CENTRING = 0.6       # aim this share of the lateral error to the other side
SIGHT = 90.0         # vehicles count within this distance [m]
MEMORY = 10          # ticks for which a seen actor is remembered
BESIDE = 0.9         # room beside an obstacle [m]
LEAST_OFFSET = 2.5   # well beyond the middle of the road [m]
WAIT_GAP = 7.0       # room to pull out from behind an obstacle [m]


def smoothstep(x):
  x = np.clip(x, 0.0, 1.0)
  return x * x * (3 - 2 * x)


class Bypass:
  """A way around: leave the lane at `start`, be back after `end`."""

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
    rise = smoothstep((s - self._start) / self._out)
    fall = smoothstep((s - self._back) / self._length) if self.returning else 0
    return self._offset * (rise - fall)


class Expert:
  """Drives one episode: control = expert.control() before every tick.

  Attributes:
    emergency: it brakes hard for a person right now.
  """

  def __init__(self, world, sees_all=False):
    self._world, self._sees_all = world, sees_all
    self._route = world.scene.route
    self._limits = speed_profile(self._route, world.scene.cruise)
    self._bypass, self._around, self.emergency = None, None, False
    self._seen, self._parked = {}, {}

  def control(self):
    """The Control for the coming tick."""
    state = self._world.state()
    if state.tick % 2 == 0:
      self._perceive(state)
    seen = [self._place(actor, state) for actor, _ in self._seen.values()]
    s, v = state.progress, state.speed
    self._plan_bypass(s, v, seen)
    acceleration = self._cruise(s, v)
    for other in seen:
      acceleration = min(acceleration, self._follow(s, v, other))
    acceleration = min(acceleration, self._yield(s, v, seen))
    person = min([self._spare(s, v, other) for other in seen
                  if other.actor.kind == "walker"], default=np.inf)
    self.emergency = person < 0
    acceleration = min(acceleration, person)
    if acceleration < -0.3 and v < 0.15:
      return worlds.Control(brake=1.0, steer=self._steer(state))
    throttle, brake = actors.Ego.pedals(acceleration, v)
    return worlds.Control(float(throttle), self._steer(state), float(brake))

  def _perceive(self, state):
    points = self._world.visible()
    for actor in self._world.scene.actors:
      if actor.kind not in ("vehicle", "walker") or actor.id not in points:
        continue
      near = math.dist(actor.position, state.position) < SIGHT
      if near and (self._sees_all or points[actor.id] > 0):
        self._seen[actor.id] = actor, state.tick
    self._seen = {k: v for k, v in self._seen.items()
                  if state.tick - v[1] <= MEMORY}

  def _place(self, actor, state):
    """Seen of an actor; those that stand for good are looked up once."""
    if actor.state != "static":
      return Seen(actor, self._route, state.progress)
    if actor.id not in self._parked:
      self._parked[actor.id] = Seen(actor, self._route, None)
    return self._parked[actor.id]

  def _offset(self, s):
    return self._bypass.offset(s) if self._bypass else 0.0

  def _steer(self, state):
    """Pure pursuit from the rear axle."""
    axles = actors.Ego.LENGTH
    s = state.progress + min(max(0.36 * state.speed, 1.6), 4.0)
    _, aside = self._route.project(state.position, state.progress)
    error = aside - self._offset(state.progress)
    target = self._route.point(s, self._offset(s) - CENTRING * error)
    direction = np.array([np.cos(state.heading), np.sin(state.heading)])
    delta = target - (state.position - axles / 2 * direction)
    distance = np.hypot(*delta)
    angle = (np.arctan2(delta[1], delta[0]) - state.heading + np.pi) % (
        2 * np.pi) - np.pi
    wheel = np.arctan(2 * axles * np.sin(angle) / distance)
    return float(np.clip(wheel / actors.Ego.MAX_STEER, -1, 1))

  def _cruise(self, s, v):
    limit = self._limits[self._route.index(s + 0.25 * v)]
    if v > limit:
      return max(-2.2 * (v - limit), -5.0)
    return PULL * (1 - (v / limit) ** 4)

  def _follow(self, s, v, other):
    """IDM behind a vehicle that is on the planned path."""
    if other.actor.kind != "vehicle" or other.s < s:
      return np.inf
    aside = abs(other.lateral - self._offset(other.s))
    if aside > other.half_width + WIDTH + 0.3:
      return np.inf
    if self._bypass and other.actor is self._around:
      return np.inf
    gap = other.s - other.half_length - s - HALF
    room = WAIT_GAP - STANDSTILL if other.is_obstacle else 0.0
    return idm(v, other.speed, gap - room)

  def _plan_bypass(self, s, v, seen):
    if self._bypass is None:
      ahead = [o for o in seen if o.is_obstacle and s < o.s < s + 45]
      if not ahead or self._world.scene.bypass is None:
        return
      obstacle = min(ahead, key=lambda o: o.s)
      gap = obstacle.s - obstacle.half_length - s - HALF
      out = float(np.clip(2.4 * v, 9.0, 18.0))
      if gap < out + 2.0 and self._is_free(s, v, obstacle, seen):
        self._bypass = Bypass(s, out, self._way_around(obstacle))
        self._around = obstacle.actor
    elif not self._bypass.returning:
      passed, _ = self._route.project(self._around.position, s, 40.0)
      if s > passed + self._around.extent[0] - 0.5:
        self._bypass.return_at(s, float(np.clip(2.2 * v, 9.0, 17.0)))
    elif self._bypass.done(s):
      self._bypass = None

  def _way_around(self, obstacle):
    """Offset that passes an obstacle: a whole lane, or what it takes."""
    if self._world.scene.bypass == "same":
      return -towns.LANE
    need = obstacle.half_width + WIDTH + BESIDE - obstacle.lateral
    return -min(max(need, LEAST_OFFSET), towns.LANE)

  def _is_free(self, s, v, obstacle, seen):
    """Is the lane to the left free for long enough?"""
    opposing = self._world.scene.bypass == "opposing"
    end = obstacle.s + obstacle.half_length + 2.0 + 13.0
    time = (end - s) / max(0.5 * (v + self._world.scene.cruise), 2.5)
    for other in seen:
      if (other.actor.kind != "vehicle" or other.actor.state == "static"
          or abs(other.lateral + towns.LANE) > 1.6):
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

  def _spare(self, s, v, person):
    """Acceleration that stops before a person who is or will be in the way."""
    gap = person.s - s - HALF
    aside = person.lateral - self._offset(person.s)
    if gap < -0.5 or gap > 40.0:
      return np.inf
    towards = -np.sign(aside) * person.drift
    edge = abs(aside) - WIDTH - person.half_width
    inside = edge < (0.9 if towards > -0.3 else 0.45)
    leaves = (gap + 2 * HALF + 2.0) / max(v, 1.0)
    coming = towards > 0.4 and edge < 1.0 + towards * min(leaves, 4.0)
    if not (inside or coming):
      return np.inf
    need = v * v / (2 * max(gap - 2.5, 0.3))
    if need > 1.2:
      return -min(max(1.3 * need, EMERGENCY), 8.0)
    return idm(v, 0.0, gap)

  def _yield(self, s, v, seen):
    """Stops before a crossing while somebody would meet the ego there."""
    best = np.inf
    for at, point in self._world.scene.crossings:
      if s > at - 5.5:
        continue
      pace = max(0.5 * (v + self._limits[self._route.index(at)]), 2.0)
      enter, leave = (at - 6.0 - s) / pace, (at + 5.0 - s) / pace
      for other in seen:
        if other.meets(point, enter - 0.8, leave + 0.8):
          best = min(best, idm(v, 0.0, at - 7.0 - s - HALF + STANDSTILL))
    return best


class Seen:
  """An actor in the route's frame.

  Attributes:
    s, lateral: along the route and to its right [m]. speed: along the route
    [m/s]; drift: to the right [m/s]. half_length, half_width: extents there.
    is_obstacle: a vehicle that stands in the ego's lane.
  """

  def __init__(self, actor, route, progress):
    self.actor = actor
    self.s, self.lateral = route.project(actor.position, progress, 95.0)
    heading = route.heading[route.index(self.s)]
    cos, sin = np.cos(heading), np.sin(heading)
    vx, vy = actor.velocity
    self.speed, self.drift = vx * cos + vy * sin, vy * cos - vx * sin
    turn = actor.yaw - heading
    along, across = abs(np.cos(turn)), abs(np.sin(turn))
    length, width, _ = actor.extent
    self.half_length = along * length + across * width
    self.half_width = across * length + along * width
    self.is_obstacle = (actor.kind == "vehicle" and actor.speed < 0.3
                        and actor.body is None and abs(self.lateral) < 1.2)

  def meets(self, point, enter, leave):
    """Is it within 5 m of a point on its way between two times [s]?"""
    speed = self.actor.speed
    if self.actor.kind != "vehicle" or speed < 0.5:
      return False
    along = self.actor.velocity / speed
    delta = point - self.actor.position
    ahead = float(delta @ along)
    if abs(delta[1] * along[0] - delta[0] * along[1]) > 1.8 or ahead < -5.0:
      return False
    return (ahead - 5.0) / speed < leave and (ahead + 5.0) / speed > enter


def idm(v, lead, gap):
  """Intelligent driver model's braking term for a gap [m] and two speeds."""
  want = STANDSTILL + max(
      0.0, v * HEADWAY + v * (v - lead) / (2 * np.sqrt(PULL * EASE)))
  if gap <= 0.1:
    return -8.0
  return float(max(PULL * (1 - (want / gap) ** 2), -8.0))


def speed_profile(route, cruise):
  """Highest comfortable speed per route sample [N], braking ahead of bends."""
  limit = np.minimum(cruise, np.sqrt(
      LATERAL / np.maximum(np.abs(route.curvature), 1e-6)))
  step = 2 * EASE * paths.STEP
  for i in range(len(limit) - 2, -1, -1):
    limit[i] = min(limit[i], np.sqrt(limit[i + 1] ** 2 + step))
  return limit
