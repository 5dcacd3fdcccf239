"""Comparisons of two runs, and the published tables."""

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators.bench2drive import (
    compare,
    published,
    records,
    report,
    route_sets,
    text,
)
from tests.evaluators.bench2drive import drives


def result(tmp_path, name, entries, **kwargs):
  path = drives.write(tmp_path / f"{name}.json", drives.shard(*entries))
  return report.report(records.load(path), **kwargs)


def worse(count, route_set=drives.OLD):
  """Entries of a set whose first `count` routes reach half of their way."""
  half = dict(route=50.0, status="Failed - Agent got blocked")
  names = [f"r{number}" for number in list(route_set.types)[:count]]
  return drives.every(route_set, **dict.fromkeys(names, half))


def test_differences_are_paired_by_route(tmp_path):
  a = result(tmp_path, "a", worse(44))
  b = result(tmp_path, "b", list(reversed(worse(22))))
  found = compare.compare(a, b)
  # 22 of 220 routes gain 50 points and a success: 5 points and 10 %.
  assert found["driving_score"]["difference"] == pytest.approx(5.0)
  assert found["success_rate"]["difference"] == pytest.approx(10.0)
  assert found["driving_score"]["difference"] == pytest.approx(
      b["driving_score"] - a["driving_score"])
  assert (found["better"], found["worse"], found["equal"]) == (22, 0, 198)
  assert [pair["difference"] for pair in found["per_route"]][-23:] == (
      [0.0] + 22 * [50.0])


def test_the_interval_is_that_of_the_binomial(tmp_path):
  # The resampled mean gain is 100 * B(220, 0.1) / 220: deviation
  # 100 * sqrt(0.09 / 220) = 2.02, so that 95 % lie within 10 -+ 3.96.
  found = compare.compare(result(tmp_path, "a", worse(44)),
                          result(tmp_path, "b", worse(22)))["success_rate"]
  assert found["low"] == pytest.approx(6.04, abs=0.5)
  assert found["high"] == pytest.approx(13.96, abs=0.5)


def test_the_interval_is_seeded_and_turns_with_the_order(tmp_path):
  a = result(tmp_path, "a", drives.every())
  b = result(tmp_path, "b", drives.every(**{
      f"r{number}": dict(route=i / 3, status="Failed")
      for i, number in enumerate(drives.OLD.types)}))
  found = compare.compare(a, b, seed=3)
  assert found == compare.compare(a, b, seed=3)
  assert found["driving_score"] != compare.compare(a, b)["driving_score"]
  back = compare.compare(b, a, seed=3)["driving_score"]
  np.testing.assert_allclose(
      [back["difference"], back["low"], back["high"]],
      [-found["driving_score"][name]
       for name in ("difference", "high", "low")])


def test_a_run_against_itself_has_no_difference(tmp_path):
  a = result(tmp_path, "a", worse(44))
  found = compare.compare(a, a)
  assert found["driving_score"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
  assert found["equal"] == 220


def test_partial_runs_are_compared_on_what_they_share(tmp_path):
  entries = worse(2)
  a = result(tmp_path, "a", entries[:3], partial=True)
  b = result(tmp_path, "b", drives.every()[1:4], partial=True)
  found = compare.compare(a, b)
  numbers = list(drives.OLD.types)
  assert found["routes"] == 2
  assert found["only_first"] == numbers[:1]
  assert found["only_second"] == numbers[3:4]
  assert found["driving_score"]["difference"] == 25.0  # (50 + 0) / 2
  assert "PARTIAL" in text.comparison(a, b, found)


def test_other_routes_are_not_compared(tmp_path):
  a = result(tmp_path, "a", drives.every())
  with pytest.raises(errors.DataError, match="a is on bench2drive220.xml, b"):
    compare.compare(a, result(tmp_path, "b", drives.every(drives.NEW)))
  parts = [result(tmp_path, name, drives.every()[where], partial=True)
           for name, where in (("c", slice(0, 3)), ("d", slice(3, 6)))]
  with pytest.raises(errors.DataError, match="c and d have no route in common"):
    compare.compare(*parts)


def test_published_tables_are_well_formed():
  tables = published.load()
  assert [len(table["methods"]) for table in tables] == [3, 16]
  for table in tables:
    assert table["route_set"] in route_sets.load() and table["source"]
    for row in table["methods"]:
      assert row["venue"] and set(published.COLUMNS) <= row.keys()
      assert 0 < row["driving_score"] <= 100 and 0 <= row["success_rate"] <= 100


@pytest.mark.parametrize("method, row", [
    ("DriveMoE, trajectory router", (74.22, 48.64, 175.96, 15.31, 1.01)),
    ("UniAD-Base", (45.81, 16.36, 129.21, 43.58, 0.73)),
    ("GenAD", (44.81, 15.90, None, None, None)),
    ("LEAD", (95.59, 87.28, None, None, None))])
def test_published_rows_are_the_papers(method, row):
  [found] = [r for table in published.load() for r in table["methods"]
             if r["method"] == method]
  assert tuple(found[name] for name in published.COLUMNS) == row


def test_a_score_stands_in_the_tables_of_its_own_set(tmp_path):
  old = result(tmp_path, "old", worse(120))  # DS (120 * 50 + 100 * 100) / 220
  new = result(tmp_path, "new", worse(0, drives.NEW))
  tables = {t["route_set"]: t for t in published.place([old, new])}
  names = [row["method"] for row in tables[drives.OLD.name]["methods"]]
  # 72.73 lies between 74.22 and 71.36; the other set's result is not there.
  assert names[:3] == ["DriveMoE, trajectory router", "old", "Raw2Drive"]
  assert "new" not in names
  assert tables[drives.NEW.name]["methods"][0]["method"] == "new"
  assert [t["route_set"] for t in published.place([new])] == [drives.NEW.name]
  said = text.table(tables[drives.OLD.name])
  [ours] = [line for line in said.splitlines() if line.startswith(">")]
  assert "72.73" in ours and "45.45" in ours


def test_a_partial_result_has_no_place(tmp_path):
  part = result(tmp_path, "part", drives.every()[:219], partial=True)
  assert published.place([part]) == []
