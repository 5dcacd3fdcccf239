"""What moves by plan: objects whose update(world, dt) is called every tick."""

import numpy as np

from data_pipeline.miniworld import actors

CUT_GAP = (7.5, 13.0)  # centre to centre, in which a car cuts in [m]
SLOW_S = 3.0           # and drives slowly afterwards [s]
NEAR_LIGHT = 15.0      # a light notices who waits within this [m]


class Stroll:
  """A walker who keeps to the pavement at a steady pace."""

  def __init__(self, walker, speed):
    self._walker = walker
    walker.speed = speed

  def update(self, world, dt):
    del world
    self._walker.position = self._walker.position + self._walker.velocity * dt


class Crossing:
  """A walker who steps out when the ego is near, and crosses the road."""

  def __init__(self, walker, place, lead, speed, distance):
    """Args: place on the route [m], lead before arrival [s], speed [m/s],
    distance to walk [m]."""
    self._walker, self._place, self._lead = walker, place, lead
    self._speed, self._left, self._walks = speed, distance, False

  def update(self, world, dt):
    gap = self._place - world.progress
    self._walks |= gap < max(self._lead * world.ego.speed, 7.0)
    step = self._speed * dt * self._walker.heading
    reach = self._walker.position + self._walker.heading * 0.7
    blocked = world.ego_covers(reach)  # nobody walks into a car's flank
    moves = self._walks and self._left > 0 and not blocked
    self._walker.speed = self._speed if moves else 0.0
    if moves:
      self._left -= self._speed * dt
      self._walker.position = self._walker.position + step


class HardBrake:
  """A car ahead that keeps its distance, stops dead and drives on."""

  def __init__(self, car, place, wait, pace):
    """Args: place of the ego on its route when it happens [m]; wait: stands
    so long [s]; pace: of the car otherwise [m/s]."""
    self._car, self._place, self._wait, self._pace = car, place, wait, pace
    car.body.ACC_MAX = 8.0

  def update(self, world, dt):
    body = self._car.body
    if world.progress < self._place:
      gap = world.scene.route.project(body.position)[0] - world.progress
      body.target_speed = float(np.clip(
          world.ego.speed + 0.8 * (13.0 - gap), 1.0, 12.0))
    elif self._wait > 0:
      body.target_speed = 0.0
      if body.speed < 0.3:
        self._wait -= dt
    else:
      body.target_speed = self._pace


class CutIn:
  """A car that drives beside, changes to the ego's lane and slows down."""

  def __init__(self, car, lane_index, place, ahead, slow, pace):
    """Args: lane_index: the ego's; place of the ego on its route [m]; ahead:
    of it, centre to centre [m]; slow: to this share of its speed; pace: of
    the car in the end [m/s]."""
    self._car, self._lane, self._place = car, lane_index, place
    self._ahead, self._slow, self._pace = ahead, slow, pace
    self._since = None

  def update(self, world, dt):
    body = self._car.body
    if self._since is not None:
      self._since += dt
      if self._since > SLOW_S:
        body.target_speed = self._pace
      return
    gap = world.scene.route.project(body.position)[0] - world.progress
    body.target_speed = float(np.clip(
        world.ego.speed + 0.9 * (self._ahead - gap), 1.0, 13.0))
    if world.progress > self._place and CUT_GAP[0] < gap < CUT_GAP[1]:
      self._since = 0.0
      body.target_lane_index = self._lane
      body.target_speed = max(self._slow * world.ego.speed, 2.0)


class Signal:
  """Lights that change when somebody has waited for long enough."""

  def __init__(self, red, green, line, wait):
    """Args: red, green: lights that swap; line: where the ego waits, metres
    of its route; wait: [s]."""
    self._red, self._green, self._line = red, green, line
    self._wait = wait

  def update(self, world, dt):
    if world.progress < self._line - NEAR_LIGHT or self._wait <= 0:
      return
    self._wait -= dt
    if self._wait <= 0:
      for lights, state in ((self._red, actors.GREEN),
                            (self._green, actors.RED)):
        for light in lights:
          light.state = state
