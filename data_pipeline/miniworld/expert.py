"""A rule-based driver: IDM, pure pursuit and gap acceptance.

It reacts only to what a camera could see (line of sight), unless told to see
all. It is a teacher for imitation, so it is brisk but never reckless: it must
finish every scenario without touching anything.

Its pedals are those of the release's controller: full brakes, or as much
throttle as that gives. A policy's car knows nothing between, so a teacher who
slowed down gently would never show the states that such a car comes to. What is
annotated is what it asks for: who brakes fully in order to slow down a little
does not brake hard, as the labels mean it.

Axes: N route samples. `s` is metres along the route, offsets are to the right.
"""

import math

import numpy as np

from data_pipeline import control, ticks
from data_pipeline.miniworld import actors, manoeuvres, paths
from data_pipeline.miniworld import seen as eyes
from data_pipeline.miniworld import world as worlds
from data_pipeline.miniworld.referee import TAIL
from data_pipeline.miniworld.seen import (
  EASE,
  FULL,
  HALF,
  PULL,
  STANDSTILL,
  WIDTH,
)

LATERAL = 5.6        # comfortable lateral acceleration [m/s^2]
CENTRING = 0.6       # aim this share of the lateral error to the other side
SIGHT = 90.0         # vehicles count within this distance [m]
MEMORY = 60          # ticks for which a seen actor is remembered
WAIT_GAP = 7.0       # room to pull out from behind an obstacle [m]
AT_LINE = 2.6        # aims to stop this far before a line [m]
NEAR_LINE = 5.5      # who stands here stays, the line is near enough [m]
HEEDED = 0.4         # brakes to lose this share of its speed a second [1/s];
WALK = 1.0           # slower [m/s], it brakes
START = 0.5          # unless it wants to start [m/s^2]
LOOKOUT = 45.0       # for lights and signs [m]
KINDS = ("vehicle", "walker", "traffic_sign")
CAR = control.CONTROLLERS["drivemoe"]


class Expert:
  """Drives one episode: control = expert.control() before every tick.

  Attributes:
    emergency: it brakes hard for a person or a car right now.
    asked: Control that gives the acceleration it wants, were there pedals for
      every one; what recordings annotate.
  """

  def __init__(self, world, sees_all=False):
    self._world, self._sees_all = world, sees_all
    self._route = world.scene.route
    self._limits = speed_profile(self._route, world.scene.cruise)
    self._manoeuvres = manoeuvres.of(world.scene)
    self._stopped, self.emergency = set(), False
    self._seen, self._parked = {}, {}
    self._pedals = 0.0, 1.0
    self.asked = worlds.Control()

  def control(self):
    """The Control for the coming tick."""
    state = self._world.state()
    if state.tick % ticks.PLAN_EVERY == 0:
      self._perceive(state)
    seen = [self._place(actor, state) for actor, _ in self._seen.values()]
    s, v = state.progress, state.speed
    acceleration = self._cruise(s, v)
    for manoeuvre in self._manoeuvres:
      manoeuvre.plan(s, v, seen)
      acceleration = min(acceleration, manoeuvre.limit(s, v, seen))
    for other in seen:
      acceleration = min(acceleration, self._follow(s, v, other))
    acceleration = min(acceleration, self._yield(s, v, seen),
                       self._obey(s, v))
    spared = min([self._spare(s, v, other) for other in seen
                  if self._is_hazard(v, other)], default=np.inf)
    self.emergency = spared < 0
    acceleration = min(acceleration, spared)
    steer = pursue(self._route, state, self._offset)
    if state.tick % ticks.PLAN_EVERY == 0:
      self._pedals = pedals(acceleration, v, steer, self._pedals[1] > 0)
    throttle, brake = actors.Ego.pedals(acceleration, v)
    self.asked = worlds.Control(float(throttle), steer, float(brake))
    throttle, brake = self._pedals
    return worlds.Control(throttle, steer, brake)

  def _perceive(self, state):
    points = self._world.visible()
    for actor in self._world.scene.actors:
      if actor.kind not in KINDS or actor.id not in points:
        continue
      near = math.dist(actor.position, state.position) < SIGHT
      if near and (self._sees_all or points[actor.id] > 0):
        self._seen[actor.id] = actor, state.tick
    self._seen = {k: v for k, v in self._seen.items()
                  if state.tick - v[1] <= MEMORY}

  def _place(self, actor, state):
    """Seen of an actor; those that stand for good are looked up once."""
    if actor.state != "static":
      return eyes.Seen(actor, self._route, state.progress)
    if actor.id not in self._parked:
      self._parked[actor.id] = eyes.Seen(actor, self._route, None)
    return self._parked[actor.id]

  def _offset(self, s):
    return sum(manoeuvre.offset(s) for manoeuvre in self._manoeuvres)

  def _cruise(self, s, v):
    limit = self._limits[self._route.index(s + 0.25 * v)]
    if v > limit:
      return max(-2.2 * (v - limit), -5.0)
    return PULL * (1 - (v / limit) ** 4)

  def _follow(self, s, v, other):
    """IDM behind a vehicle that is on the planned path."""
    if other.actor.kind not in actors.BODIES or other.s < s:
      return np.inf
    aside = abs(other.lateral - self._offset(other.s))
    # Who is parked stands along the street, where a route that changes lanes
    # does not: seen along that, he reaches into a lane that he is beside.
    parked = other.actor.state == "static" and self._world.scene.change
    wide = other.actor.extent[1] if parked else other.half_width
    if aside > wide + WIDTH + 0.3:
      return np.inf
    if any(manoeuvre.ignores(other) for manoeuvre in self._manoeuvres):
      return np.inf
    gap = other.s - other.half_length - s - HALF
    waits = other.is_obstacle and not self._world.scene.change
    room = WAIT_GAP - STANDSTILL if waits else 0.0
    return eyes.idm(v, other.speed, gap - room)

  def _is_hazard(self, v, other):
    """A person, or the car ahead that stops dead."""
    stops = (other.actor is self._world.scene.brakes_for
             and other.speed < 0.6 * v)
    return stops or other.actor.kind == "walker"

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
      return -FULL
    return eyes.idm(v, 0.0, gap)

  def _yield(self, s, v, seen):
    """Stops before a crossing while somebody would meet the ego there."""
    best, patience = np.inf, self._world.scene.patience
    for at, point in self._world.scene.crossings:
      if s > at - 5.5:
        continue
      pace = max(0.5 * (v + self._limits[self._route.index(at)]), 2.0)
      enter, leave = (at - 6.0 - s) / pace, (at + 5.0 - s) / pace
      for other in seen:
        if other.meets(point, enter - patience, leave + patience):
          best = min(best, eyes.idm(v, 0.0, at - 7.0 - s - HALF + STANDSTILL))
    return best

  def _obey(self, s, v):
    """Stops at a red light, and once at a stop sign.

    Beyond the line, too, as long as it is not passed for the referee.
    """
    best = np.inf
    for line in self._world.scene.lines:
      gap = line.s - s - HALF
      passed = HALF if line.is_stop else HALF + TAIL
      if (not -passed < gap < LOOKOUT or line.is_open
          or line in self._stopped):
        continue
      if v < WALK and gap < NEAR_LINE:
        if line.is_stop and v < 0.05:
          self._stopped.add(line)
        best = min(best, 0.0)  # waits where he stands
      best = min(best, eyes.halt(v, gap - AT_LINE))
    return best


def pedals(wish, speed, steer, braking):
  """(throttle, brake) for a wish [m/s^2], as the car's controller is bound.

  Who brakes goes on until he wishes for more speed: one brake, not ten taps.
  """
  least = START if speed < WALK else 0.0 if braking else -HEEDED * speed
  if wish < least:
    return 0.0, 1.0
  fast = speed > (CAR.turn_limit if abs(steer) > CAR.turn_steer
                  else CAR.straight_limit)
  return CAR.capped_throttle if fast else CAR.max_throttle, 0.0


def pursue(route, state, offset):
  """Steering of pure pursuit from the rear axle.

  Args:
    route: town.Route. state: world.State.
    offset: metres of the route -> metres to its right.
  """
  axles = actors.Ego.LENGTH
  s = state.progress + min(max(0.36 * state.speed, 1.6), 4.0)
  _, aside = route.project(state.position, state.progress)
  error = aside - offset(state.progress)
  target = route.point(s, offset(s) - CENTRING * error)
  direction = np.array([np.cos(state.heading), np.sin(state.heading)])
  delta = target - (state.position - axles / 2 * direction)
  distance = np.hypot(*delta)
  angle = (np.arctan2(delta[1], delta[0]) - state.heading + np.pi) % (
      2 * np.pi) - np.pi
  wheel = np.arctan(2 * axles * np.sin(angle) / distance)
  return float(np.clip(wheel / actors.Ego.MAX_STEER, -1, 1))


def speed_profile(route, cruise):
  """Highest comfortable speed per route sample [N], braking ahead of bends."""
  limit = np.minimum(cruise, np.sqrt(
      LATERAL / np.maximum(np.abs(route.curvature), 1e-6)))
  step = 2 * EASE * paths.STEP
  for i in range(len(limit) - 2, -1, -1):
    limit[i] = min(limit[i], np.sqrt(limit[i + 1] ** 2 + step))
  return limit
