"""Scores that papers report, each table on one route set, as data files.

A table is a file in `published/`: `route_set`, `source`, and per method its
name, venue and numbers (null where the source has none).
"""

import functools
import json
import pathlib

COLUMNS = ("driving_score", "success_rate", "efficiency", "comfort", "avg_l2")


@functools.cache
def load():
  """Returns the tables, {route_set, source, methods[]} each."""
  folder = pathlib.Path(__file__).with_name("published")
  return tuple(json.loads(path.read_text(encoding="utf-8"))
               for path in sorted(folder.glob("*.json")))


def place(results):
  """Each table with the results that were driven on its route set.

  Args:
    results: `report.report` of complete results; a result on another set than
      a table's is left out of it.

  Returns:
    Tables as in `load` that have a result, `methods` by falling driving score;
    a result's row has `ours: true`, its file as the method, and its set's
    name.
  """
  tables = []
  for table in load():
    ours = [{"method": result["file"], "venue": "this file", "avg_l2": None,
             "ours": True, **{name: result[name] for name in COLUMNS[:4]}}
            for result in results
            if result["complete"] and result["route_set"] == table["route_set"]]
    if ours:
      methods = sorted(table["methods"] + ours, reverse=True,
                       key=lambda row: row["driving_score"])
      tables.append(table | {"methods": methods})
  return tables
