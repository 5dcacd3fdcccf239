"""Means, intervals and groups of made-up records."""

import pytest

from data_pipeline.miniworld import names, referee
from drivemoe_jax.evaluators.closed_loop import summary


def record(kind, seed, composed, **charged):
  infractions = {k: [] for k in referee.KINDS} | charged
  return {
      "route_id": f"RouteScenario_{names.number(kind, seed)}_rep0",
      "status": "Completed" if composed else "Failed - Agent timed out",
      "infractions": infractions, "save_name": "",
      "scores": {"score_route": 100.0 if composed else 0.0,
                 "score_penalty": composed / 100 or 1.0,
                 "score_composed": composed}}


WANTED = [("TJunction", 20000), ("LaneChange", 20000), ("TJunction", 20001),
          ("LaneChange", 20001)]
RECORDS = [record("TJunction", 20000, 100.0),
           record("LaneChange", 20000, 60.0, collisions_vehicle=["hit"]),
           record("TJunction", 20001, 100.0),
           record("LaneChange", 20001, 0.0, route_timeout=["late"])]


def test_means_are_over_drives_and_groups():
  found = summary.summarise(RECORDS, WANTED)
  assert found["driving_score"]["value"] == 65.0
  assert found["success_rate"]["value"] == 50.0
  assert found["episodes"] == 4 and found["seeds"] == 2
  merging = found["per_skill"]["merging"]
  assert merging["driving_score"]["value"] == 30.0
  assert merging["success_rate"]["value"] == 0.0
  assert found["per_skill"]["normal"]["success_rate"]["value"] == 100.0
  assert found["per_type"]["LaneChange"]["completion"] == 50.0
  assert found["infractions"]["collisions_vehicle"] == {
      "total": 1, "routes": 1}


def test_intervals_resample_whole_seeds():
  part = summary.summarise(RECORDS, WANTED)["driving_score"]
  # Two seeds with means 80 and 50: half of all resamples mix them.
  assert (part["low"], part["high"]) == (50.0, 80.0)
  alone = summary.summarise(RECORDS[:2], WANTED[:2])["driving_score"]
  assert (alone["low"], alone["high"]) == (80.0, 80.0)


def test_the_table_names_every_driver_and_skill():
  text = summary.table({
      "model": summary.summarise(RECORDS, WANTED),
      "blind": summary.summarise(RECORDS, WANTED)})
  for word in ("model", "blind", "merging (2)", "normal (2)", "all (4)",
               "65 [50,80]", "route_timeout 1"):
    assert word in text, text


def test_records_and_drives_must_fit():
  with pytest.raises(ValueError):
    summary.summarise(RECORDS, WANTED[:3])
