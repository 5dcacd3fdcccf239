"""Every number of the label rules, and which scenario type asks for which.

"b2dvl" marks a constant that Bench2Drive-VL's annotator uses, "ours" one that
this project chose; the official generator has not been published.
"""

import dataclasses

from data_pipeline import bench2drive

VERSION = "1"  # of rules and constants together; side files carry it

LEFT, RIGHT = "LEFT", "RIGHT"
NULL, NORMAL = "NULL", "NORMAL"  # labels of a frame that asks for nothing
# Commands of the route planner; 1 to 3 are given for junctions only.
TURN_LEFT, TURN_RIGHT, STRAIGHT, FOLLOW, CHANGE_LEFT, CHANGE_RIGHT = range(1, 7)
SIDE_OF_TURN = {TURN_LEFT: LEFT, TURN_RIGHT: RIGHT}
SIDE_OF_CHANGE = {CHANGE_LEFT: LEFT, CHANGE_RIGHT: RIGHT}
CROSSINGS = (TURN_LEFT, TURN_RIGHT, STRAIGHT)


def _number(value, unit, meaning, source="ours"):
  return dataclasses.field(default=value, metadata={
      "unit": unit, "meaning": meaning, "source": source})


@dataclasses.dataclass(frozen=True)
class Constants:
  """Thresholds; a frame is 0.1 s. describe.constants() prints them."""

  spawn_frames: int = _number(
      5, "frames", "actors and props before this frame are ignored", "b2dvl")
  horizon_time: float = _number(
      2.5, "s", "obstacle horizon: this times the speed ...", "b2dvl")
  horizon_least: float = _number(
      20.0, "m", "... and at least this", "b2dvl")
  ahead: float = _number(
      -1.5, "m", "x above which an object is ahead", "b2dvl")
  stopped_speed: float = _number(
      0.5, "m/s", "up to which an object stands", "b2dvl")
  parked_drift: float = _number(
      2.0, "m", "an obstacle moves no farther than this in the whole route")
  points_vehicle: int = _number(
      15, "points", "lidar points of a visible vehicle", "b2dvl")
  points_bicycle: int = _number(
      10, "points", "... bicycle", "b2dvl")
  points_walker: int = _number(5, "points", "... walker", "b2dvl")
  far_change: float = _number(
      15.0, "m", "a far lane-change command within this counts as near's",
      "b2dvl")
  junction_reach: float = _number(
      8.0, "m", "without a map: travel within which the road id must confirm "
      "a junction's entry and exit; 0 takes the command's frames as they are")
  junction_ahead: float = _number(
      8.0, "m", "a junction nearer than this is at hand", "b2dvl")
  hold: int = _number(3, "frames", "for which a new lane id must hold")
  change_window: int = _number(
      60, "frames", "a lane change is foreseen this long")
  home_window: int = _number(
      30, "frames", "before a bypass whose usual lane is home")
  return_window: int = _number(
      12, "frames", "the way back begins this long before the lane id flips")
  parked_y: float = _number(
      5.25, "m", "|y| within which a stopped vehicle is an obstacle", "b2dvl")
  cone_x: float = _number(
      1.5, "m", "least x of a cone that invades the lane", "b2dvl")
  passed_accident: float = _number(
      16.0, "m", "behind the ego: an accident is passed", "b2dvl")
  passed_construction: float = _number(
      15.0, "m", "... a construction site", "b2dvl")
  passed_hazard: float = _number(
      10.0, "m", "... bicycles at the side", "b2dvl")
  passed_other: float = _number(1.5, "m", "... any other obstacle", "b2dvl")
  emergency_speed: float = _number(
      4.0, "m/s", "above which an emergency vehicle counts", "b2dvl")
  emergency_behind: float = _number(
      40.0, "m", "how far behind it may be to give way")
  emergency_front: float = _number(4.0, "m", "... and how far ahead")
  emergency_side: float = _number(
      1.75, "m", "|y| above which it has a side of its own")
  emergency_near: float = _number(
      30.0, "m", "at which one that takes priority is a hazard", "b2dvl")
  parking_side: float = _number(
      1.75, "m", "sideways of the start: out of the parking slot")
  meet_distance: float = _number(
      20.0, "m", "of a vehicle that merges or cuts in", "b2dvl")
  meet_y: float = _number(7.5, "m", "... its |y|", "b2dvl")
  meet_behind: float = _number(
      20.0, "m", "... how far behind it may be", "b2dvl")
  meet_angle: float = _number(
      0.05, "rad", "... its least heading towards the ego's line", "b2dvl")
  bearing: float = _number(
      82.5, "degrees", "beyond which a rear camera looks, midway between the "
      "cameras' 55 and 110")
  hazard_y: float = _number(4.5, "m", "|y| within which a hazard counts")
  brake: float = _number(0.5, "", "pedal above which the car brakes")
  brake_before: int = _number(5, "frames", "braking this long ago counts")
  brake_after: int = _number(10, "frames", "... and this far ahead")
  brake_hold: int = _number(5, "frames", "emergency braking goes on")
  merge_node: float = _number(
      15.0, "m", "to a turn's node: merging at the junction has begun")
  sign_distance: float = _number(
      40.0, "m", "of a light or stop sign that affects the ego")
  stop_behind: float = _number(
      2.6, "m", "a stop sign's area that is this far behind is passed")
  stop_y: float = _number(3.5, "m", "|y| of a stop sign's area on our way")


DEFAULTS = Constants()

# Another spelling -> the name that the tables below use.
ALIASES = {"SequentialLaneChange": "LaneChange", "T_Junction": "TJunction"}

OBSTACLES = ("Accident", "ConstructionObstacle", "HazardAtSideLane",
             "ParkedObstacle", "VehicleOpensDoor")
OVERTAKING = tuple(
    kind + form for kind in OBSTACLES for form in ("", "TwoWays"))
HIGHWAY = ("HighwayExit", "MergerIntoSlowTraffic", "MergerIntoSlowTrafficV2",
           "InterurbanActorFlow")
MERGING = (
    "LaneChange", *HIGHWAY, "CrossingBicycleFlow", "EnterActorFlow",
    "NonSignalizedJunctionLeftTurn", "NonSignalizedJunctionRightTurn",
    "NonSignalizedJunctionLeftTurnEnterFlow", "SignalizedJunctionLeftTurn",
    "SignalizedJunctionRightTurn", "SignalizedJunctionLeftTurnEnterFlow")
PARKING_EXIT = ("ParkingExit",)
GIVE_WAY = {"InvadingTurn": "GIVEWAY", "YieldToEmergencyVehicle": "GIVEWAY",
            "HighwayCutIn": "GIVEWAY_HIGHWAY",
            "InterurbanAdvancedActorFlow": "GIVEWAY_HIGHWAY"}
# Published camera labels of ParkingCutIn, StaticCutIn and EnterActorFlow show
# no look at the vehicle that cuts in, so these types are not among them.
CUT_IN = ("HighwayCutIn", "InterurbanAdvancedActorFlow")
# Type -> what it brakes for.
HAZARDS = {
    "BlockedIntersection": "vehicle", "HardBreakRoute": "vehicle",
    "DynamicObjectCrossing": "person", "PedestrianCrossing": "person",
    "ParkingCrossingPedestrian": "person", "VehicleTurningRoute": "person",
    "VehicleTurningRoutePedestrian": "person",
    "OppositeVehicleTakingPriority": "priority",
    "OppositeVehicleRunningRedLight": "priority",
    "ParkingCutIn": "cut-in", "StaticCutIn": "cut-in",
    "ControlLoss": "debris"}
NO_SKILL = ("TJunction", "VanillaSignalizedTurnEncounterGreenLight",
            "VanillaSignalizedTurnEncounterRedLight",
            "VanillaNonSignalizedTurnEncounterStopsign",
            "VanillaNonSignalizedTurn", "NoScenario")
KNOWN = frozenset((*OVERTAKING, *MERGING, *PARKING_EXIT, *GIVE_WAY, *CUT_IN,
                   *HAZARDS, *NO_SKILL))


def parse_name(route_name):
  """As bench2drive.parse_name, with the type's usual spelling."""
  return bench2drive.parse_name(canonical(route_name))


def canonical(route_name):
  """A route's folder name with its scenario type's usual spelling."""
  for alias, kind in ALIASES.items():
    if route_name.startswith(alias + "_"):
      return kind + route_name.removeprefix(alias)
  return route_name
