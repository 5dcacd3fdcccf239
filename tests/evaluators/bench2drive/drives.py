"""Made-up result files in the evaluator's format."""

import json

from drivemoe_jax.evaluators.bench2drive import records, route_sets

OLD, NEW = route_sets.load().values()
SPEED = "Average speed is {}% of the surrounding traffic's one"
LANES = ("Agent went outside its route lanes for about 3.2 meters ({}% of the "
         "completed route)")


def entry(number="1711", *, status="Completed", route=100.0, penalty=1.0,
          composed=None, rep=0, kind=None, **infractions):
  """A record; `infractions` are lists of strings, or numbers of entries."""
  lists = {kind: [] for kind in records.KINDS}
  for name, value in infractions.items():
    lists[name] = ["entry"] * value if isinstance(value, int) else value
  kind = kind or (OLD.types | NEW.types).get(number, "Accident")
  return {
      "index": 0, "route_id": f"RouteScenario_{number}_rep{rep}",
      "scenario_name": f"{kind}_1", "weather_id": 3, "save_name": f"r{number}",
      "status": status, "num_infractions": sum(map(len, lists.values())),
      "infractions": lists, "town_name": "Town12",
      "scores": {
          "score_route": route, "score_penalty": penalty,
          "score_composed": (round(route * penalty, 6) if composed is None
                             else composed)},
      "meta": {"route_length": 100.0, "duration_game": 20.0,
               "duration_system": 60.0},
  }


def parse(*entries):
  """Records of entries."""
  return [records.record_of(one) for one in entries]


def shard(*entries, progress=None):
  """The evaluator's own document."""
  done = len(entries)
  return {"_checkpoint": {"global_record": {}, "records": list(entries),
                          "progress": progress or [done, done]},
          "entry_status": "Finished", "eligible": True, "sensors": [],
          "values": [], "labels": []}


def every(route_set=OLD, **changes):
  """An entry for each route of a set; `changes` {"r1711": entry kwargs}."""
  return [entry(number, **changes.get(f"r{number}", {}))
          for number in route_set.types]


def write(path, document):
  """Writes a document, or text as it stands; returns the path as a string."""
  path.write_text(document if isinstance(document, str)
                  else json.dumps(document))
  return str(path)
