"""Labels of traffic's scenes: merging, leaving a slot, letting others go.

As labels.py, from what the script knows of its own actors.
"""

import dataclasses
import math

from data_pipeline.miniworld import town as towns

SIDE_OF_CHANGE = {towns.CHANGE_LEFT: "CAM_BACK_LEFT",
                  towns.CHANGE_RIGHT: "CAM_BACK_RIGHT"}
AT_HAND = 15.0       # a far command within this counts [m]
HOLD = 3             # frames for which a new lane must last
UNSETTLED = 5        # first frames, whose actors do not count yet
PASSING = (-40.0, 4.0)  # x of an emergency vehicle that counts [m]
HAS_SIDE = 1.75      # |y| from which a place has a side [m]
FORESIGHT = 60       # frames in which a lane change is foreseen
CUTS = (20.0, 7.5)   # distance and |y| of a car that cuts in [m]
ANGLE = 0.05         # its least heading towards the ego's line [rad]
BEARING = 82.5       # beyond which a rear camera looks [degrees]


@dataclasses.dataclass(frozen=True)
class Other:
  """The actor that a scene of traffic is about.

  Attributes:
    x, y: in the ego frame [m]. heading: against the ego's [rad].
    speed: m/s. points: lidar points on it. beside: it is on another lane.
  """

  x: float
  y: float
  heading: float
  speed: float
  points: int
  beside: bool


def place(state, point):
  """A world point [2] in the ego frame (forward, right) of a State."""
  dx, dy = point - state.position
  cos, sin = math.cos(state.heading), math.sin(state.heading)
  return float(cos * dx + sin * dy), float(cos * dy - sin * dx)


def command(state):
  """The near command, or a lane change of the far one that is at hand."""
  x, y, near = state.near
  far_x, far_y, far = state.far
  gap = math.dist((far_x, far_y), state.position)
  changes = near == towns.FOLLOW and far in SIDE_OF_CHANGE and gap < AT_HAND
  return far if changes else near


def other(world):
  """Other of the scene's first trigger that is a moving car, or None."""
  for actor in world.scene.triggers:
    if actor.kind == "vehicle" and actor.body is not None:
      state = world.state()
      turn = actor.yaw - state.heading
      return Other(*place(state, actor.position),
                   math.atan2(math.sin(turn), math.cos(turn)), actor.speed,
                   world.visible().get(actor.id, 0),
                   world.lane_of(actor) != world.lane())
  return None


def label(frames, kind, cameras, skills):
  """Writes the labels of one of traffic's scenes into the lists [N]."""
  if kind == "ParkingExit":
    _parking_exit(frames, cameras, skills)
  elif kind in ("LaneChange", "MergerIntoSlowTraffic"):
    _merging(frames, kind, cameras, skills)
  elif kind in ("YieldToEmergencyVehicle", "HighwayCutIn"):
    _give_way(frames, kind, cameras, skills)


def _parking_exit(frames, cameras, skills):
  x0, y0, heading = frames[0].pose
  for i, frame in enumerate(frames):
    dx, dy = frame.pose[0] - x0, frame.pose[1] - y0
    if abs(math.cos(heading) * dy - math.sin(heading) * dx) >= HAS_SIDE:
      return
    cameras[i], skills[i] = "CAM_BACK_LEFT", "PARKING_EXIT"


def _merging(frames, kind, cameras, skills):
  lanes = [frame.lane.lane_id for frame in frames]
  change = next((i for i in range(1, len(lanes) - HOLD + 1)
                 if all(lane != lanes[0] for lane in lanes[i:i + HOLD])),
                len(lanes))
  side = next((SIDE_OF_CHANGE[f.command] for f in frames
               if f.command in SIDE_OF_CHANGE), "CAM_BACK_LEFT")
  for i, frame in enumerate(frames):
    commanded = SIDE_OF_CHANGE.get(frame.command)
    if commanded or (kind != "LaneChange" and i < change):
      cameras[i], skills[i] = commanded or side, "MERGING_HIGHWAY"


def _give_way(frames, kind, cameras, skills):
  lanes = [frame.lane.lane_id for frame in frames]
  for i, frame in enumerate(frames):
    it = frame.other
    if i < UNSETTLED or it is None:
      continue
    if kind == "YieldToEmergencyVehicle":
      if (PASSING[0] < it.x < PASSING[1] and it.speed > 4.0
          and it.points >= 15):
        view = "CAM_BACK" if it.x < 0 else "CAM_FRONT"
        cameras[i] = f"{view}_{_side(it, lanes, i)}"
        skills[i] = "GIVEWAY"
    elif (math.hypot(it.x, it.y) < CUTS[0] and abs(it.y) <= CUTS[1]
          and it.speed > 0.5 and it.beside and it.heading * it.y < 0
          and abs(it.heading) > ANGLE):
      ahead = abs(math.degrees(math.atan2(it.y, it.x))) < BEARING
      side = "RIGHT" if it.y > 0 else "LEFT"
      cameras[i] = f"CAM_{'FRONT' if ahead else 'BACK'}_{side}"
      skills[i] = "GIVEWAY_HIGHWAY"


def _side(it, lanes, i):
  """Its side; straight behind, that of the ego's next lane change."""
  if abs(it.y) > HAS_SIDE:
    return "RIGHT" if it.y > 0 else "LEFT"
  for t in range(i + 1, min(i + FORESIGHT + 1, len(lanes) - HOLD + 1)):
    if lanes[t] != lanes[t - 1] and len(set(lanes[t:t + HOLD])) == 1:
      return "RIGHT" if lanes[t] < lanes[t - 1] else "LEFT"
  return "LEFT"
