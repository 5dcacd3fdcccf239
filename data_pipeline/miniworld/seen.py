"""An actor as the expert sees it, and the law by which it follows one.

Places are in the route's frame: `s` is metres along it, offsets are to the
right.
"""

import numpy as np

from data_pipeline.miniworld import actors

HALF, WIDTH = actors.EGO_EXTENT[0], actors.EGO_EXTENT[1]
PULL, EASE = 3.0, 3.5  # acceleration, comfortable braking [m/s^2]
HEADWAY, STANDSTILL = 0.9, 3.0  # IDM gap [s], [m]
# Who has to brake harder than LATE brakes fully: the car's controller heeds
# only plans that lose a third of the speed at once, and would wait until
# gentler ones are out of the question.
LATE, FULL = 4.0, actors.Ego.BRAKES  # [m/s^2]
SLOW = 2.0  # closing in by less than this is never late [m/s]


class Seen:
  """An actor in the route's frame.

  Attributes:
    s, lateral: along the route and to its right [m]. speed: along the route
    [m/s]; drift: to the right [m/s]. half_length, half_width: extents there.
    is_obstacle: a vehicle or a barrier that stands in the ego's lane.
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
    self.is_obstacle = (actor.kind in actors.BODIES and actor.speed < 0.3
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
  closing = v - lead
  # Nobody stops for who comes towards him: that one passes beside.
  late = (lead >= 0 and closing > SLOW
          and closing ** 2 > 2 * LATE * (gap - STANDSTILL))
  if late or gap <= 0.1:
    return -FULL
  want = STANDSTILL + max(
      0.0, v * HEADWAY + v * (v - lead) / (2 * np.sqrt(PULL * EASE)))
  return float(max(PULL * (1 - (want / gap) ** 2), -FULL))


def halt(v, gap):
  """IDM's term for a line `gap` metres ahead of the bumper: stops there."""
  return idm(v, 0.0, gap + STANDSTILL)


def smoothstep(x):
  x = min(max(x, 0.0), 1.0)
  return x * x * (3 - 2 * x)
