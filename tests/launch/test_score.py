"""The score command: text, JSON, refusals and exit codes."""

import json
import subprocess
import sys

import pytest

from drivemoe_jax.evaluators.bench2drive import junctions
from launch import score
from tests.evaluators.bench2drive import drives
from tests.evaluators.bench2drive.test_comfort import motion, write


@pytest.fixture
def whole(tmp_path):
  """A complete run in which one route collided and one got blocked."""
  accident, turn = "2534", "28048"
  entries = drives.every(**{
      f"r{accident}": dict(collisions_vehicle=1, penalty=0.6),
      f"r{turn}": dict(status="Failed - Agent got blocked", route=50.0,
                       vehicle_blocked=1)})
  return drives.write(tmp_path / "merged.json", drives.shard(*entries))


@pytest.fixture
def part(tmp_path):
  """A run without its first two routes."""
  return drives.write(tmp_path / "part.json", drives.shard(
      *drives.every()[2:], progress=[218, 220]))


def call(*args):
  return score.main([str(arg) for arg in args])


def from_json(capsys, *args):
  status = call(*args, "--json", "-")
  return status, json.loads(capsys.readouterr().out)


def test_a_complete_run(whole, capsys):
  assert call(whole) == 0
  said = capsys.readouterr().out
  # (218 * 100 + 60 + 50) / 220 = 99.5909; 218 / 220 = 99.0909 %
  for words in ("merged: bench2drive220.xml, 220 of 220 routes\n",
                drives.OLD.sha256, "Driving Score 99.5909",
                "Success Rate 99.0909 %", "collisions_vehicle 1 (1)",
                "Completed 219, Failed - Agent got blocked 1",
                # 44 of 45; 94 or 95 of 95
                "Overtaking 97.78", "Traffic_Signs 98.95 to 100.00",
                # 188 or 189 of 190
                "Traffic_Signs 98.95 to 99.47"):
    assert words in said
  assert "PARTIAL" not in said and "W-DATA" not in said


def test_the_json_keeps_its_promises(whole, capsys):
  status, out = from_json(capsys, whole)
  [found] = out["files"]
  assert status == 0 and found["file"] == "merged"
  assert found["route_set"] == "bench2drive220.xml" and found["routes"] == 220
  assert found["driving_score"] == pytest.approx(21910 / 220)
  assert found["success_rate"] == pytest.approx(100 * 218 / 220)
  assert found["efficiency"] is None and found["comfort"] is None
  assert found["missing"] == [] and found["duplicates"] == []
  assert len(found["abilities"]) == 5
  for part in found["abilities"].values():
    assert {"value", "low", "high"} <= part.keys()
  assert found["abilities"]["Overtaking"]["value"] == pytest.approx(4400 / 45)
  assert found["abilities"]["Traffic_Signs"]["value"] is None
  assert len(found["per_route"]) == 220 and len(found["sha256"]) == 64


def test_no_headline_for_a_partial_run(part, tmp_path, capsys):
  target = tmp_path / "out.json"
  assert call(part, "--json", target, "--published") == 3
  captured = capsys.readouterr()
  missing = sorted(list(drives.OLD.types)[:2], key=int)
  assert f"part has 218 of 220 routes, {', '.join(missing)} missing" in (
      captured.err)
  assert f"missing: {', '.join(missing)}" in captured.out
  assert "Driving Score" not in captured.out
  assert "no place among published" in captured.out
  assert "stopped at 218 of 220" in captured.out
  [found] = json.loads(target.read_text())["files"]
  assert found["driving_score"] is None and found["success_rate"] is None
  assert all(part["low"] is None for part in found["abilities"].values())
  assert found["missing"] == missing


def test_partial_gives_numbers_with_a_tag_and_no_rank(part, capsys):
  assert call(part, "--partial", "--published") == 0
  said = capsys.readouterr().out
  # 218 of 220 routes at 100; missing ones count 0.
  assert "Driving Score 99.0909" in said and "PARTIAL" in said
  assert "DriveMoE (arXiv" not in said


def test_a_folder_is_merged_and_written(tmp_path, capsys):
  shards = tmp_path / "shards"
  shards.mkdir()
  entries = drives.every()
  drives.write(shards / "0.json", drives.shard(*entries[:110]))
  drives.write(shards / "1.json", drives.shard(*entries[109:]))
  target = tmp_path / "merged.json"
  assert call(shards, "--merge", target) == 0
  said = capsys.readouterr().out
  assert "shards: bench2drive220.xml, 220 of 220" in said
  assert f"came twice: {list(drives.OLD.types)[109]}" in said
  assert len(json.loads(target.read_text())["_checkpoint"]["records"]) == 220
  assert not list(tmp_path.glob("*.part"))
  assert call(target) == 0
  assert call(shards, "--merge", target) == 2
  assert "there is such a file" in capsys.readouterr().err


def test_comfort_from_beside_the_file_or_from_elsewhere(
    whole, tmp_path, capsys):
  write(tmp_path, "2534", motion(30))
  [found] = from_json(capsys, whole)[1]["files"]
  assert found["comfort"] == 100.0 and found["comfort_routes"] == 1
  assert len(found["comfort_unmeasured"]) == 219
  assert "219 routes (" in found["warnings"][0]
  assert "no metric_info.json" in found["warnings"][0]
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  write(elsewhere, "2534", motion(30, yaw=5.0))
  status, out = from_json(capsys, whole, "--metric-dir", elsewhere)
  assert status == 0 and out["files"][0]["comfort"] == 0.0
  assert out["files"][0]["comfort_fixed"] == 100.0


def test_an_empty_metric_folder_is_no_comfort_and_no_error(
    whole, tmp_path, capsys):
  (tmp_path / "empty").mkdir()
  status, out = from_json(capsys, whole, "--metric-dir", tmp_path / "empty")
  assert status == 0 and out["files"][0]["comfort"] is None
  assert len(out["files"][0]["comfort_unmeasured"]) == 220


def test_compare(whole, tmp_path, capsys):
  better = drives.write(tmp_path / "b.json", drives.shard(*drives.every()))
  status, out = from_json(capsys, "--compare", whole, better)
  assert status == 0 and len(out["files"]) == 2
  # (40 + 50) / 220
  assert out["comparison"]["driving_score"]["difference"] == pytest.approx(
      90 / 220)
  assert call("--compare", whole, better, "--seed", 1) == 0
  said = capsys.readouterr().out
  assert "b - merged" in said and "2 routes better, 0 worse" in said


def test_an_incomplete_run_is_not_compared_unasked(whole, part, capsys):
  assert call("--compare", whole, part) == 3
  assert "interval" not in capsys.readouterr().out
  assert call("--compare", whole, part, "--partial") == 0
  assert "218 routes that both have - PARTIAL" in capsys.readouterr().out


def test_sets_are_never_mixed(whole, tmp_path, capsys):
  new = drives.write(tmp_path / "n.json",
                     drives.shard(*drives.every(drives.NEW)))
  assert call("--compare", whole, new) == 3
  assert "cannot be compared" in capsys.readouterr().err
  assert call(whole, new, "--published") == 0
  tables = capsys.readouterr().out.split("Table 2")
  new_table, old_table = [
      [line.split()[1] for line in part.splitlines() if line[:1] == ">"]
      for part in tables]
  assert (new_table, old_table) == (["n"], ["merged"])
  assert call(whole, "--route-set", drives.NEW.name) == 3
  assert "is not in bench2drive_0.0.4_val.xml" in capsys.readouterr().err
  mixed = drives.shard(*drives.every()[:3], *drives.every(drives.NEW)[:3])
  assert call(drives.write(tmp_path / "m.json", mixed)) == 3
  assert "mixes route sets" in capsys.readouterr().err


def test_what_a_reader_must_know_is_said(tmp_path, capsys):
  numbers = list(drives.OLD.types)
  entries = drives.every(**{
      f"r{numbers[0]}": dict(status="Failed - Simulation crashed", route=0.0),
      f"r{numbers[1]}": dict(status="Started", route=0.0),
      f"r{numbers[2]}": dict(red_light=1),  # with a penalty of 1
      f"r{numbers[3]}": dict(min_speed_infractions=["slow"]),
      f"r{numbers[4]}": dict(kind="Somewhere"),
      f"r{numbers[5]}": dict(
          status="Failed - Agent couldn't be set up", route=0.0),
      f"r{numbers[6]}": dict(status="Failed - TickRuntime", route=9.0)})
  assert call(drives.write(tmp_path / "r.json", drives.shard(*entries))) == 0
  said = capsys.readouterr().out
  for words in (f"3 routes ({numbers[0]}, {numbers[1]}, {numbers[5]}): crashed",
                f"1 route ({numbers[2]}): the penalty",
                f"1 route ({numbers[3]}): a minimum-speed entry",
                f"1 route ({numbers[4]}): another scenario type"):
    assert words in said


def test_maps_are_asked_for_open_cases_only(
    whole, tmp_path, monkeypatch, capsys):
  asked = []

  def passed(rows, known, map_root, routes_xml):
    asked.append(([r.number for r in rows], map_root, routes_xml))
    return {r.number: True for r in rows}

  monkeypatch.setattr(junctions, "passed", passed)
  [found] = from_json(capsys, whole, "--map-root", tmp_path, "--routes",
                      "x.xml")[1]["files"]
  assert asked == [(["28048"], str(tmp_path), "x.xml")]
  assert found["abilities"]["Traffic_Signs"]["value"] == 100.0
  assert found["ability_mean"]["script"]["value"] < 100.0


@pytest.mark.parametrize("args, match", [
    ((), "no result file"),
    (("a.json", "--compare", "b.json", "c.json"), "leave a.json out"),
    (("a.json", "b.json", "--metric-dir", "."), "--metric-dir is for one"),
    (("a.json", "b.json", "--merge", "m.json"), "--merge is for one"),
    (("a.json", "--metric-dir", "nowhere"), "nowhere: no such folder"),
    (("a.json", "--map-root", "nowhere"), "nowhere: no such folder"),
    (("a.json", "--routes", "x.xml"), "--routes is for --map-root")])
def test_flags_that_do_not_go_together(capsys, args, match):
  assert call(*args) == 2
  assert match in capsys.readouterr().err


def test_a_broken_file_names_its_route(tmp_path, capsys):
  entries = drives.every(r2534=dict(composed=float("nan")))
  assert call(drives.write(tmp_path / "r.json", drives.shard(*entries))) == 3
  assert "E-DATA" in (said := capsys.readouterr().err)
  assert "RouteScenario_2534_rep0: score_composed nan" in said


def test_it_needs_no_accelerator_stack():
  subprocess.run([sys.executable, "-c", (
      "import sys, launch.score\n"
      "assert not {'jax', 'tensorflow', 'carla'} & set(sys.modules)")],
                 check=True)
