"""Camera and skill labels of a driven route, from what the script knows.

The same definitions as the label generator's (which sees annotations only):
a junction crossing looks to the front side of the exit; a bypass looks to the
rear side on roads of one direction and to the front side when it uses the
opposing lane, out and back; braking for a hazard and overtaking are skills
while they last; story.py knows those of traffic. Hindsight over the whole
route is legitimate here.
"""

import dataclasses
import math

import numpy as np

from data_pipeline.miniworld import story
from data_pipeline.miniworld import town as towns

SIDE_OF_TURN = {towns.LEFT: "CAM_FRONT_LEFT", towns.RIGHT: "CAM_FRONT_RIGHT"}
BYPASS = {"same": ("CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
          "opposing": ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT")}
BRAKES_FOR = {"DynamicObjectCrossing": "walker", "HardBreakRoute": "vehicle"}
HOLD = 3             # frames for which a new lane must last
FORESIGHT = 12       # frames before the change back that already count
UNSETTLED = 5        # first frames, whose actors do not count yet
VISIBLE = {"vehicle": 15, "walker": 5}  # points
LIGHT_DISTANCE = 40.0  # [m]
STOP_BEHIND, STOP_ASIDE = 2.6, 3.5  # of a stop sign's area [m]


@dataclasses.dataclass(frozen=True)
class Facts:
  """What one saved frame contributes.

  Attributes:
    lane: LaneName under the ego. turn: the route's command while it crosses a
      junction, else None.
    speed [m/s], brake 0..1, emergency: of the driver.
    triggers: (kind, x, y, points) of each trigger, in the ego frame.
    light: distance to the light that affects the ego [m], or None.
    stop: a stop sign is ahead. command: of the route, near or at hand.
    pose: x, y [m], heading [rad]. other: story.Other or None: who merges,
      cuts in or wants past.
  """

  lane: towns.LaneName
  turn: int
  speed: float
  brake: float
  emergency: bool
  triggers: tuple
  light: float
  stop: bool = False
  command: int = towns.FOLLOW
  pose: tuple = (0.0, 0.0, 0.0)
  other: story.Other | None = None


def facts(world, control, emergency, light, sign):
  """Facts of the world's present frame; light, sign: Actors or None."""
  state, points = world.state(), world.visible()
  triggers = tuple((actor.kind, *story.place(state, actor.position),
                    points.get(actor.id, 0)) for actor in world.scene.triggers)
  if light is not None:
    light = float(np.hypot(*(light.position - state.position)))
  route = world.scene.route
  at = route.index(state.progress)
  turn = int(route.command[at]) if route.junction[at] else None
  return Facts(world.lane(), turn, state.speed, control.brake, emergency,
               triggers, light, _sees_stop(world, sign),
               story.command(state), (*state.position, state.heading),
               story.other(world))


def _sees_stop(world, sign):
  """A stop sign that affects the ego, or whose area is on its way."""
  if sign is not None and math.dist(
      sign.position, world.state().position) < LIGHT_DISTANCE:
    return True
  for line in world.scene.lines:
    if line.is_stop:
      x, y = story.place(world.state(), line.actor.trigger[0])
      return -STOP_BEHIND < x < LIGHT_DISTANCE and abs(y) <= STOP_ASIDE
  return False


def of_scene(frames, scene):
  """label() of a Scene's drive."""
  return label(frames, scene.bypass, scene.kind, scene.bypass_side)


def label(frames, bypass, kind="DynamicObjectCrossing", side=-1):
  """(camera labels, skill labels): one string per frame.

  Args:
    frames: list of Facts. bypass: "same", "opposing" or None. kind: scenario
      type. side: of the bypass, -1 is left.
  """
  cameras = ["NULL"] * len(frames)
  skills = ["NORMAL"] * len(frames)
  for i, frame in enumerate(frames):
    if frame.turn is not None:
      cameras[i] = SIDE_OF_TURN.get(frame.turn, "NULL")
    elif frame.light is not None and frame.light < LIGHT_DISTANCE:
      skills[i] = "TRAFFIC_LIGHT"
    if frame.stop:
      skills[i] = "TRAFFIC_SIGN"
  story.label(frames, kind, cameras, skills)
  if bypass:
    _label_bypass(frames, BYPASS[bypass][::-side], cameras, skills)
  for i in _braking(frames, BRAKES_FOR.get(kind)):
    skills[i] = "EMERGENCY_BRAKE"
  return cameras, skills


def _has_trigger(frame, kind, reach):
  """Is a trigger visible, ahead and within the obstacle horizon?"""
  horizon = max(2.5 * frame.speed, 20.0)
  return any(
      own == kind and points >= VISIBLE.get(kind, 0) and abs(y) <= reach
      and 0.0 < x and np.hypot(x, y) < horizon
      for own, x, y, points in frame.triggers)


def _label_bypass(frames, views, cameras, skills):
  first = next((i for i, f in enumerate(frames) if i >= UNSETTLED
                and (_has_trigger(f, "vehicle", 5.25)
                     or _has_trigger(f, "traffic_sign", math.inf))), None)
  if first is None:
    return
  lanes = [f.lane.lane_id for f in frames]
  home = lanes[first]
  out = _change(lanes, first, lambda lane: lane != home)
  back = _change(lanes, out, lambda lane: lane == home)
  held_out, held_back = out + HOLD, back + HOLD
  for i in range(first, min(held_out, len(frames))):
    cameras[i] = views[0]
  for i in range(max(back - FORESIGHT, held_out),
                 min(held_back, len(frames))):
    cameras[i] = views[1]
  for i in range(first, min(held_back, len(frames))):
    skills[i] = "OVERTAKING"


def _change(lanes, start, is_new):
  """First index from start at which a new lane begins to hold."""
  for i in range(start, len(lanes) - HOLD + 1):
    if all(is_new(lane) for lane in lanes[i:i + HOLD]):
      return i
  return len(lanes) + FORESIGHT


def _braking(frames, kind):
  """Indices at which the driver brakes for the hazard, and 5 after."""
  brakes = [f.brake > 0.5 or f.emergency for f in frames]
  on = set()
  for i, frame in enumerate(frames):
    if (kind and _has_trigger(frame, kind, 4.5)
        and any(brakes[max(i - 5, 0):i + 11])):
      on.update(range(i, min(i + 6, len(frames))))
  return sorted(on)
