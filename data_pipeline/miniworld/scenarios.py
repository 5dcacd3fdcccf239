"""The scenarios: seeded scenes with a name from Bench2Drive's type list.

Each builder draws from one numpy Generator; `seed` also cycles the variants
(left, right, ...) so that every few seeds hold all of them.
"""

import difflib
import zlib

import numpy as np

from data_pipeline import errors
from data_pipeline.miniworld import crossroads, hazards, obstacles, traffic
from data_pipeline.spec import Skill

# Seeds from here on are for driving in the loop; recorders stay below.
FIRST_TEST_SEED = 20000

# Type -> (builder, the skill that it is about).
SCENARIOS = {
    "TJunction": (crossroads.t_junction, Skill.NORMAL),
    "VanillaSignalizedTurnEncounterGreenLight":
        (crossroads.green_light, Skill.NORMAL),
    "ParkedObstacle": (obstacles.parked_obstacle, Skill.OVERTAKING),
    "ParkedObstacleTwoWays": (obstacles.parked_obstacle, Skill.OVERTAKING),
    "DynamicObjectCrossing":
        (hazards.dynamic_object_crossing, Skill.EMERGENCY_BRAKE),
    "MergerIntoSlowTraffic": (traffic.merger, Skill.MERGING),
    "LaneChange": (traffic.lane_change, Skill.MERGING),
    "ParkingExit": (traffic.parking_exit, Skill.PARKING_EXIT),
    "ConstructionObstacle":
        (obstacles.construction_obstacle, Skill.OVERTAKING),
    "HardBreakRoute": (hazards.hard_brake, Skill.EMERGENCY_BRAKE),
    "YieldToEmergencyVehicle": (traffic.emergency_vehicle, Skill.GIVE_WAY),
    "HighwayCutIn": (traffic.cut_in, Skill.GIVE_WAY),
    "VanillaNonSignalizedTurnEncounterStopsign":
        (crossroads.stop_sign, Skill.TRAFFIC_SIGN),
    "VanillaSignalizedTurnEncounterRedLight":
        (crossroads.red_light, Skill.TRAFFIC_SIGN),
}
FIRST = tuple(SCENARIOS)[:5]  # those that configs/tiny.py learns from


def build(kind, seed):
  """The Scene of a scenario type and a seed.

  Raises:
    ConfigError: unknown type, with the nearest one.
  """
  check(kind)
  rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
  builder, _ = SCENARIOS[kind]
  return builder(kind, seed, rng)


def check(kind):
  """Refuses a scenario name that does not exist."""
  if kind not in SCENARIOS:
    near = difflib.get_close_matches(kind, SCENARIOS, n=1, cutoff=0.3)
    hint = (f"did you mean {near[0]!r}?" if near
            else f"known: {sorted(SCENARIOS)}")
    raise errors.ConfigError(f"unknown scenario {kind!r}; {hint}")
