"""The label rules: two ordered tables, first match wins.

A rule looks at the whole route and gives each frame a label or None. Rules
know nothing of their order; `decide` does. Axes: N frames.
"""

import dataclasses
from collections.abc import Callable

from data_pipeline.labels import camera, skill
from data_pipeline.labels import constants as consts


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row of a table.

  Attributes:
    id: what side files call it. name, types, when, label: for people.
    apply: (Signals, earlier {rule id: labels}, Constants) -> labels [N].
  """

  id: str
  name: str
  types: str
  when: str
  label: str
  apply: Callable


@dataclasses.dataclass(frozen=True)
class Labels:
  """Labels of a route and the ids of the rules that gave them, each [N]."""

  camera: list
  skill: list
  camera_rule: list
  skill_rule: list
  source: str      # who told where the junctions are: "map" or "command"


def decide(signals, c=consts.DEFAULTS):
  """Returns the Labels of a route's Signals."""
  hits, columns = {}, []
  for table in (CAMERA_RULES, SKILL_RULES):
    for rule in table:
      hits[rule.id] = rule.apply(signals, hits, c)
    first = [next(rule.id for rule in table if hits[rule.id][t] is not None)
             for t in range(len(signals))]
    columns.append(([hits[rule][t] for t, rule in enumerate(first)], first))
  (cameras, camera_rules), (skills, skill_rules) = columns
  return Labels(cameras, skills, camera_rules, skill_rules, signals.source)


CAMERA_RULES = (
    Rule("C1", "junction turn", "all",
         "in a junction, and its crossing turns left or right",
         "front camera of the turn's side", camera.junction_turn),
    Rule("C2", "emergency vehicle", "YieldToEmergencyVehicle",
         "a visible police car, ambulance or fire engine drives near",
         "rear camera on its side, front if x >= 0; side of the foreseen lane "
         "change if it is in line, else left", camera.emergency_vehicle),
    Rule("C3", "parking exit", "ParkingExit",
         "until the car is out of its slot: sideways of the first frame's "
         "axis, or with a map off the parking lane",
         "rear camera on the side it leaves to", camera.parking_exit),
    Rule("C4", "bypass", "the five obstacle types, one and two ways",
         "out: an obstacle in sight until the new lane holds, or without one "
         "until it is passed; back: from shortly before the lane id flips "
         "until home holds",
         "rear camera of the side; front if the way out crosses the middle, "
         "and for both ways if the type is TwoWays", camera.bypass),
    Rule("C5", "invading turn", "InvadingTurn",
         "from the first to the last sight of a construction cone",
         "CAM_FRONT_LEFT", camera.invading_turn),
    Rule("C6", "commanded change", "all",
         "the route's command is a lane change; with a map, to a drivable "
         "lane", "rear camera of the side", camera.commanded_change),
    Rule("C7", "highway", ", ".join(consts.HIGHWAY),
         "from the first frame until the first lane change is done; after it "
         "in a junction or just before",
         "rear camera of the change's side; then front camera of the route's "
         "first turn", camera.highway),
    Rule("C8", "merging vehicle", ", ".join(consts.CUT_IN),
         "a moving vehicle of another lane is near and converges",
         "front or rear camera by its bearing, on its side", camera.cut_in),
    Rule("C9", "nothing to see", "all", "otherwise", consts.NULL,
         camera.no_camera),
)
SKILL_RULES = (
    Rule("S1", "parking exit", "ParkingExit", "C3 holds", "PARKING_EXIT",
         skill.leaves_parking),
    Rule("S2", "overtaking", "those of C4",
         "from the first sight of the obstacle until the return is complete; "
         "without a return until the obstacle is passed, or in the opposing "
         "lane to the end", "OVERTAKING",
         skill.overtaking),
    Rule("S3", "emergency brake", ", ".join(consts.HAZARDS),
         "the type's hazard is in the way and the car brakes for it, and a "
         "little longer", "EMERGENCY_BRAKE", skill.emergency_brake),
    Rule("S4", "give way", ", ".join(consts.GIVE_WAY), "C2, C5 or C8 holds",
         "GIVEWAY, or GIVEWAY_HIGHWAY for the last two", skill.give_way),
    Rule("S5", "merging", ", ".join(consts.MERGING),
         "a lane change is commanded or C7 holds; or in a junction, or a turn "
         "is near", "MERGING_HIGHWAY; MERGING_JUNCTION", skill.merging),
    Rule("S6", "stop sign, light", "all",
         "a stop sign is ahead; or a light ahead affects the car, which is "
         "not in the junction yet", "TRAFFIC_SIGN; TRAFFIC_LIGHT",
         skill.traffic_rule),
    Rule("S7", "normal", "all", "otherwise", consts.NORMAL, skill.normal),
)
