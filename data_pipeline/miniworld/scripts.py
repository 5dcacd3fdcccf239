"""How people move: objects whose update(world, dt) is called every tick."""


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
