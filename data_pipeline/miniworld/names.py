"""The scenarios by name: their skills, and numbers for their routes.

Nothing else is imported here, so that a scorer can tell whose routes it reads.
"""

from data_pipeline.spec import Skill

# Type -> the skill that it is about. New ones go to the end: route numbers
# count on the order.
SKILLS = {
    "TJunction": Skill.NORMAL,
    "VanillaSignalizedTurnEncounterGreenLight": Skill.NORMAL,
    "ParkedObstacle": Skill.OVERTAKING,
    "ParkedObstacleTwoWays": Skill.OVERTAKING,
    "DynamicObjectCrossing": Skill.EMERGENCY_BRAKE,
    "MergerIntoSlowTraffic": Skill.MERGING,
    "LaneChange": Skill.MERGING,
    "ParkingExit": Skill.PARKING_EXIT,
    "ConstructionObstacle": Skill.OVERTAKING,
    "HardBreakRoute": Skill.EMERGENCY_BRAKE,
    "YieldToEmergencyVehicle": Skill.GIVE_WAY,
    "HighwayCutIn": Skill.GIVE_WAY,
    "VanillaNonSignalizedTurnEncounterStopsign": Skill.TRAFFIC_SIGN,
    "VanillaSignalizedTurnEncounterRedLight": Skill.TRAFFIC_SIGN,
}
TYPES = tuple(SKILLS)
FIRST = TYPES[:5]        # what is recorded where nobody asks for more
# Seeds from here on are for driving in the loop; recorders stay below.
FIRST_TEST_SEED = 20000
LAST_SEED = 999999
# How Bench2Drive's closed-loop routes spell two of the types.
_ON_ROUTES = {"TJunction": "T_Junction", "LaneChange": "SequentialLaneChange"}


def number(kind, seed):
  """Route number of (type, seed): nine digits, which CARLA's routes lack."""
  return f"9{TYPES.index(kind):02d}{seed:06d}"


def kind_of(route_number):
  """Type of a number() as a text, or None if it is no route of ours."""
  if len(route_number) != 9 or route_number[0] != "9":
    return None
  index = int(route_number[1:3])
  return TYPES[index] if index < len(TYPES) else None


def on_routes(kind):
  """A type as result files spell it."""
  return _ON_ROUTES.get(kind, kind)
