"""The five abilities: success by kind of scenario, with Traffic Signs bounded.

A route that fails may still count as a traffic sign obeyed if it ran neither a
stop sign nor a red light and came past its junction. Where that junction lies
takes the town's map (`junctions.py`); without one the ability is given as the
lowest and highest value it can have.
"""

import statistics

TRAFFIC_SIGNS = "Traffic_Signs"
_TURNS = (
    "NonSignalizedJunctionLeftTurn", "NonSignalizedJunctionLeftTurnEnterFlow",
    "NonSignalizedJunctionRightTurn", "SignalizedJunctionLeftTurn",
    "SignalizedJunctionLeftTurnEnterFlow", "SignalizedJunctionRightTurn")
TYPES = {  # scenario types may count for two abilities
    "Overtaking": frozenset((
        "Accident", "AccidentTwoWays", "ConstructionObstacle",
        "ConstructionObstacleTwoWays", "HazardAtSideLane",
        "HazardAtSideLaneTwoWays", "ParkedObstacle", "ParkedObstacleTwoWays",
        "VehicleOpensDoorTwoWays")),
    "Merging": frozenset((
        "CrossingBicycleFlow", "EnterActorFlow", "HighwayCutIn", "HighwayExit",
        "InterurbanActorFlow", "InterurbanAdvancedActorFlow",
        "MergerIntoSlowTraffic", "MergerIntoSlowTrafficV2", "ParkingExit",
        "SequentialLaneChange", *_TURNS)),
    "Emergency_Brake": frozenset((
        "BlockedIntersection", "ControlLoss", "DynamicObjectCrossing",
        "HardBreakRoute", "OppositeVehicleRunningRedLight",
        "OppositeVehicleTakingPriority", "ParkingCrossingPedestrian",
        "ParkingCutIn", "PedestrianCrossing", "StaticCutIn",
        "VehicleTurningRoute", "VehicleTurningRoutePedestrian")),
    "Give_Way": frozenset(("InvadingTurn", "YieldToEmergencyVehicle")),
    TRAFFIC_SIGNS: frozenset((
        "BlockedIntersection", "CrossingBicycleFlow", "EnterActorFlow",
        "OppositeVehicleRunningRedLight", "OppositeVehicleTakingPriority",
        "PedestrianCrossing", "T_Junction", "VanillaNonSignalizedTurn",
        "VanillaNonSignalizedTurnEncounterStopsign",
        "VanillaSignalizedTurnEncounterGreenLight",
        "VanillaSignalizedTurnEncounterRedLight", "VehicleTurningRoute",
        "VehicleTurningRoutePedestrian", *_TURNS)),
}

DEFINITIONS = {
    "abilities": "successes / routes in percent, over the routes that have a "
                 "record; a failed Traffic_Signs route counts, too, if it has "
                 "no stop or red-light entry and passed its junction",
    "script": "the same as the official script prints it: it tries each "
              "Traffic_Signs route twice, once for success and once for the "
              "junction, and divides by both",
}


def open_cases(records, types):
  """Numbers of the failed routes that may count as traffic signs obeyed.

  Args:
    records: Record of each route. types: {number: scenario type}.
  """
  return [r.number for r in records
          if types[r.number] in TYPES[TRAFFIC_SIGNS] and not r.success
          and not r.infractions["stop_infraction"]
          and not r.infractions["red_light"] and r.completion > 0]


def score(records, types, passed=None):
  """The five abilities and their mean.

  Args:
    records: Record of each route. types: {number: scenario type}.
    passed: {number: whether it passed its junction} of the open cases; None
      leaves them open.

  Returns:
    {abilities{name: {value, low, high, routes, script{value, low, high}}},
    mean{value, low, high, script}}: percent; value is None while low and high
    differ, all three where no route has a record.
  """
  unsure = open_cases(records, types)
  extra = [0 if passed is None else sum(passed[n] for n in unsure),
           len(unsure) if passed is None else sum(passed[n] for n in unsure)]
  abilities = {}
  for name, kinds in TYPES.items():
    mine = [r for r in records if types[r.number] in kinds]
    won = sum(r.success for r in mine)
    credit = extra if name == TRAFFIC_SIGNS else (0, 0)
    # Twice tried: a success wins both times, an open case the second time.
    ends = [_percent(won + more, len(mine)) for more in credit]
    script = [_percent(2 * won + more, 2 * len(mine)) for more in credit]
    abilities[name] = _bounds(*ends) | {
        "routes": len(mine), "script": _bounds(*script)}
  return {"abilities": abilities,
          "mean": _mean(abilities.values()) | {
              "script": _mean(a["script"] for a in abilities.values())}}


def _percent(part, whole):
  return 100 * part / whole if whole else None


def _bounds(low, high):
  return {"value": low if low == high else None, "low": low, "high": high}


def _mean(parts):
  """Mean of bounds; None where one is unknown."""
  parts = list(parts)
  ends = ([part[end] for part in parts] for end in ("low", "high"))
  return _bounds(*(None if None in values else statistics.fmean(values)
                   for values in ends))
