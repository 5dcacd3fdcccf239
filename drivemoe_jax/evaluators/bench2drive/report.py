"""Everything that one result file says, as one JSON object.

Headline numbers are null where routes are missing, unless asked for: a mean
over the routes that happened to finish is not the benchmark's.
"""

import os

from drivemoe_jax.evaluators.bench2drive import (
    abilities,
    comfort,
    junctions,
    route_sets,
    scores,
)

HEADLINE = ("driving_score", "success_rate", "efficiency", "comfort",
            "comfort_fixed")

# Parts of a status that blame the machinery, not the driving.
NOT_DRIVEN = ("crashed", "couldn't be set up", "sensors were invalid")

DEFINITIONS = abilities.DEFINITIONS | {
    "driving_score": "sum of the routes' composed scores / 220, 0-100",
    "success_rate": "routes Completed or Perfect with no entry but minimum "
                    "speed / 220, percent",
    "efficiency": "speed in percent of the surrounding traffic's; mean over a "
                  "route's values up to 1000, then over routes with any",
    "comfort": "percent of 2 s segments within six bounds, by the official "
               "formulas; mean over routes",
    "comfort_fixed": "comfort with yaw rates in rad/s and a true yaw "
                     "acceleration; no published table has it",
    "infractions": "entries, and routes with any",
    "penalties": "stored penalties against those that the infraction strings "
                 "make",
}


def report(results, *, route_set=None, partial=False, metric_dir=None,
           map_root=None, routes_xml=None):
  """Scores a records.Results.

  Args:
    results: what records.load returned.
    route_set: name of the set it must be on; None recognises it.
    partial: give headline numbers although routes are missing.
    metric_dir: holds <save_name>/metric_info.json; default: beside the file.
    map_root: folder of <Town>.xodr, for exact abilities.
    routes_xml: the set's XML; default: in map_root.

  Returns:
    {file, sha256, route_set, route_set_sha256, complete,
    driving_score, success_rate, efficiency, comfort, comfort_fixed, abilities,
    ability_mean, routes, missing[], duplicates[], statuses, infractions,
    penalties, per_route[], warnings[]}.

  Raises:
    DataError: routes of no official set, or of both; a broken log or map.
  """
  rows = list(results.records.values())
  known = route_sets.identify(list(results.records), results.path, route_set)
  missing = sorted(known.types.keys() - results.records.keys(), key=int)
  shown = partial or not missing
  speed, speeds, unread = scores.efficiency(rows)
  motion = comfort.score(rows, metric_dir or _beside(results.path))
  passed = None
  if map_root is not None and shown:
    unsure = set(abilities.open_cases(rows, known.types))
    passed = junctions.passed([r for r in rows if r.number in unsure], known,
                              map_root, routes_xml)
  skills = abilities.score(rows if shown else [], known.types, passed)
  penalties = scores.check_penalties(rows)
  headline = dict(zip(HEADLINE, (
      scores.driving_score(rows), scores.success_rate(rows), speed,
      motion["comfort"], motion["comfort_fixed"])))
  asked = metric_dir is not None or bool(motion["routes"])
  warnings = [*results.warnings,
              *_warnings(rows, known, penalties, unread,
                         motion if asked else None)]
  return {
      "file": results.name,
      "sha256": results.sha256,
      "route_set": known.name,
      "route_set_sha256": known.sha256,
      "complete": not missing,
      **(headline if shown else dict.fromkeys(HEADLINE)),
      "abilities": skills["abilities"],
      "ability_mean": skills["mean"],
      "routes": len(rows),
      "missing": missing,
      "duplicates": list(results.duplicates),
      "efficiency_routes": len(speeds),
      "comfort_routes": len(motion["routes"]),
      "comfort_unmeasured": motion["unmeasured"],
      "statuses": scores.statuses(rows),
      "infractions": scores.infractions(rows),
      "penalties": penalties,
      "per_route": [
          {"route": r.number, "type": known.types[r.number],
           "status": r.status, "success": r.success,
           "completion": r.completion, "penalty": r.penalty,
           "composed": r.composed, "efficiency": speeds.get(r.number),
           "comfort": motion["routes"].get(r.number)} for r in rows],
      "warnings": warnings,
  }


def merged(results):
  """The document that the official merge script makes of shards.

  Records without their `index`, by falling route_id, and the official totals;
  a route that came twice is there once.
  """
  rows = list(results.records.values())
  raw = [{key: value for key, value in entry.items() if key != "index"}
         for entry in results.raw]
  return {
      "_checkpoint": {"records": sorted(
          raw, key=lambda entry: entry["route_id"], reverse=True)},
      "driving score": scores.driving_score(rows),
      "success rate": scores.success_rate(rows) / 100,
      "eval num": len(rows),
  }


def _beside(path):
  """The folder that a result lies in, or is."""
  return path if os.path.isdir(path) else os.path.dirname(path) or os.curdir


def _warnings(rows, known, penalties, unread, motion):
  """What a reader of the numbers has to know, one text each."""
  broken = [r.number for r in rows
            if any(word in r.status for word in NOT_DRIVEN)
            or not r.status.startswith(("Completed", "Perfect", "Failed"))]
  if broken:
    yield (f"{_routes(broken)}: crashed or never finished, counted as it "
           "stands; run again")
  other = [r.number for r in rows
           if r.scenario and r.scenario != known.types[r.number]]
  if other:
    yield (f"{_routes(other)}: another scenario type in the file than in "
           f"{known.name}; is it that set?")
  off = [entry["route"] for entry in penalties["mismatches"]]
  if off:
    yield (f"{_routes(off)}: the penalty or the composed score does not follow "
           "from the infractions; edited, or another leaderboard version")
  if unread:
    yield (f"{_routes(unread)}: a minimum-speed entry holds no percentage, "
           "left out of the efficiency")
  if motion is None:
    return
  if motion["unmeasured"]:
    yield (f"{_routes(motion['unmeasured'])}: no metric_info.json of 3 ticks, "
           "left out of the comfort")
  if motion["uneven"]:
    yield (f"{_routes(motion['uneven'])}: metric_info ticks are not 2 apart "
           "(10 Hz), so that jerks and 2 s segments are off")


def _routes(numbers):
  """`3 routes (1, 2, 3)`; of many the first five."""
  shown = ", ".join(numbers[:5]) + (", ..." if len(numbers) > 5 else "")
  return f"{len(numbers)} route{'s' * (len(numbers) > 1)} ({shown})"
