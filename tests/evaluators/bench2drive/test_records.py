"""Result files: shards, merged files, folders, and everything broken."""

import hashlib

import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators.bench2drive import records, report, route_sets
from tests.evaluators.bench2drive import drives


def refused(tmp_path, document, match):
  path = drives.write(tmp_path / "r.json", document)
  with pytest.raises(errors.DataError, match=match):
    records.load(path)


def test_a_record_keeps_what_the_scores_need(tmp_path):
  path = drives.write(tmp_path / "uniad.json", drives.shard(drives.entry(
      "2390", status="Failed - Agent got blocked", route=50.0, penalty=0.6,
      kind="VanillaNonSignalizedTurn", collisions_vehicle=1)))
  results = records.load(path)
  assert results.name == "uniad" and results.warnings == ()
  with open(path, "rb") as file:
    assert results.sha256 == hashlib.sha256(file.read()).hexdigest()
  record = results.records["2390"]
  assert record.scenario == "VanillaNonSignalizedTurn"
  assert (record.completion, record.penalty, record.composed) == (50, 0.6, 30)
  assert record.infractions["collisions_vehicle"] == ("entry",)
  assert record.save_name == "r2390"


def test_a_folder_is_the_merger_of_its_shards(tmp_path):
  drives.write(tmp_path / "a_0.json", drives.shard(drives.entry("1711")))
  drives.write(tmp_path / "a_1.json", drives.shard(
      drives.entry("1773", route=50.0, status="Failed")))
  drives.write(tmp_path / "merged.json", "not read")
  drives.write(tmp_path / "merged_ability.json", "not read")
  (tmp_path / "metric_info").mkdir()
  results = records.load(str(tmp_path))
  assert list(results.records) == ["1711", "1773"]
  assert results.name == tmp_path.name


def test_merging_and_scoring_again_changes_nothing(tmp_path):
  shards = tmp_path / "shards"
  shards.mkdir()
  rows = drives.every(r1773=dict(route=50.0, status="Failed", red_light=1,
                                 penalty=0.7))
  drives.write(shards / "b.json", drives.shard(*rows[:100]))
  drives.write(shards / "a.json", drives.shard(*rows[100:]))
  whole = records.load(str(shards))
  document = report.merged(whole)
  ids = [entry["route_id"] for entry in document["_checkpoint"]["records"]]
  assert ids == sorted(ids, reverse=True)
  assert "index" not in document["_checkpoint"]["records"][0]
  assert document["eval num"] == 220
  # 219 routes of 100 and one of 35: 21935 / 220
  assert document["driving score"] == pytest.approx(21935 / 220)
  assert document["success rate"] == pytest.approx(219 / 220)
  again = records.load(drives.write(tmp_path / "merged.json", document))
  assert again.warnings == ()
  first, second = report.report(whole), report.report(again)
  for name in report.HEADLINE + ("abilities", "infractions", "penalties"):
    assert first[name] == second[name]


def test_of_a_route_that_comes_twice_the_last_counts(tmp_path):
  drives.write(tmp_path / "a.json", drives.shard(
      drives.entry("1711", status="Failed - Simulation crashed", route=0.0),
      drives.entry("1773")))
  drives.write(tmp_path / "b.json", drives.shard(drives.entry("1711")))
  results = records.load(str(tmp_path))
  assert results.duplicates == ("1711",)
  assert results.records["1711"].composed == 100.0
  assert len(results.raw) == 2
  assert any("1711 came twice: 0, then 100" in w for w in results.warnings)


def test_a_shard_that_stopped_early_is_named(tmp_path):
  results = records.load(drives.write(tmp_path / "r.json", drives.shard(
      drives.entry(), progress=[1, 28])))
  assert "stopped at 1 of 28" in results.warnings[0]


def test_totals_that_the_records_do_not_make_are_named(tmp_path):
  document = {"_checkpoint": {"records": [drives.entry()]},
              "driving score": 100.0, "success rate": 1 / 220, "eval num": 1}
  [warning] = records.load(
      drives.write(tmp_path / "r.json", document)).warnings
  assert "says driving score 100, its records make 0.454545" in warning


@pytest.mark.parametrize("document, match", [
    ("", "empty: the evaluator clears it"),
    ("  \n", "empty"),
    ('{"_checkpoint": {"records": [', "no whole JSON"),
    ("[" * 100_000, "no whole JSON"),
    ("[]", "no _checkpoint.records"),
    ("3", "no _checkpoint.records"),
    ('{"_checkpoint": []}', "no _checkpoint.records"),
    ('{"_checkpoint": {"records": {}}}', "no _checkpoint.records"),
    ('{"_checkpoint": {"records": []}}', "no route ended"),
    ('{"_checkpoint": {"records": [7]}}', "record 0: no object"),
])
def test_what_is_no_result_file_is_refused(tmp_path, document, match):
  refused(tmp_path, document, match)


def broken(**changes):
  entry = drives.entry("1711")
  for path, value in changes.items():
    *parents, leaf = path.split("__")
    place = entry
    for parent in parents:
      place = place[parent]
    if value is KeyError:
      del place[leaf]
    else:
      place[leaf] = value
  return drives.shard(drives.entry("1773"), entry)


@pytest.mark.parametrize("change, match", [
    ({"scores__score_composed": float("nan")}, "score_composed nan"),
    ({"scores__score_route": float("inf")}, "score_route inf"),
    ({"scores__score_penalty": None}, "score_penalty None"),
    ({"scores__score_penalty": -0.1}, "score_penalty -0.1"),
    ({"scores__score_route": 100.5}, "from 0 to 100"),
    ({"scores__score_route": 10**400}, "from 0 to 100"),
    ({"scores__score_penalty": True}, "score_penalty True"),
    ({"scores__score_composed": "71"}, "score_composed '71'"),
    ({"scores__score_route": KeyError}, "score_route None"),
    ({"scores": KeyError}, "no scores"),
    ({"scores": []}, "score_route None"),
    ({"status": KeyError}, "no status"),
    ({"status": None}, "status is no text"),
    ({"infractions": KeyError}, "no infractions"),
    ({"infractions": None}, "infractions is no object"),
    ({"infractions__red_light": KeyError}, "no red_light"),
    ({"infractions__red_light": 2}, "red_light is no list"),
    ({"infractions__red_light": [3]}, "red_light is no list"),
])
def test_a_broken_record_is_named_by_its_route(tmp_path, change, match):
  refused(tmp_path, broken(**change), f"RouteScenario_1711_rep0: .*{match}")


@pytest.mark.parametrize("route_id", [KeyError, None, "1711", "Route_1_rep0",
                                      "RouteScenario_x_rep0"])
def test_a_record_without_its_route_is_named_by_its_place(tmp_path, route_id):
  refused(tmp_path, broken(route_id=route_id), "is not RouteScenario_N_repN")


def test_all_faults_are_told_at_once_up_to_five(tmp_path):
  entries = [drives.entry(number) for number in list(drives.OLD.types)[:7]]
  for entry in entries:
    del entry["status"]
  refused(tmp_path, drives.shard(*entries), "and 2 more; run these routes")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
  with pytest.raises(errors.DataError, match="No such file"):
    records.load(str(tmp_path / "none.json"))
  with pytest.raises(errors.DataError, match="holds no shard; .*no .json"):
    records.load(str(tmp_path))
  drives.write(tmp_path / "merged.json", drives.shard(drives.entry()))
  with pytest.raises(errors.DataError, match="it has merged.json"):
    records.load(str(tmp_path))


def test_both_official_sets_are_whole():
  assert [len(known.types) for known in route_sets.load().values()] == [
      220, 220]
  assert drives.OLD.types.keys() & drives.NEW.types.keys() == {
      "4183", "26990"}
  assert len(set(drives.OLD.types.values())) == 44
  assert len(set(drives.NEW.types.values())) == 42


def test_a_set_is_recognised_by_its_routes():
  for known in (drives.OLD, drives.NEW):
    assert route_sets.identify(list(known.types), "r") is known
    number = next(iter(known.types))
    assert route_sets.identify([number, "4183"], "r") is known


def test_routes_of_both_sets_are_refused_by_name():
  with pytest.raises(errors.DataError, match=(
      "mixes route sets: route 1711 is in bench2drive220.xml alone, route "
      "26537 is in bench2drive_0.0.4_val.xml alone")):
    route_sets.identify(["4183", "1711", "26537"], "r")


def test_a_route_of_neither_set_is_refused():
  with pytest.raises(errors.DataError, match="route 999999 is in neither"):
    route_sets.identify(["1711", "999999"], "r")


def test_routes_of_both_sets_alike_need_a_word():
  both = ["4183", "26990"]
  with pytest.raises(errors.DataError, match="say which with --route-set"):
    route_sets.identify(both, "r")
  assert route_sets.identify(both, "r", drives.NEW.name) is drives.NEW
  with pytest.raises(errors.DataError, match="route 1711 is not in bench2d"):
    route_sets.identify(["4183", "1711"], "r", drives.NEW.name)
