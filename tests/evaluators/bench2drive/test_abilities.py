"""Abilities and their bounds; junctions with stand-ins for CARLA's packages."""

import hashlib
import sys
import types

import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators.bench2drive import (
    abilities,
    junctions,
    route_sets,
)
from tests.evaluators.bench2drive import drives


def first(kind, count=1, route_set=drives.OLD):
  """Numbers of the first routes of a scenario type."""
  return [n for n, k in route_set.types.items() if k == kind][:count]


def score(*entries, passed=None, route_set=drives.OLD):
  return abilities.score(drives.parse(*entries), route_set.types, passed)


def test_the_old_set_has_the_documented_numbers_of_routes():
  found = score(*drives.every())["abilities"]
  assert {name: part["routes"] for name, part in found.items()} == {
      "Overtaking": 45, "Merging": 80, "Emergency_Brake": 60, "Give_Way": 10,
      "Traffic_Signs": 95}
  assert all(part["value"] == 100.0 for part in found.values())
  assert len(abilities.TYPES["Traffic_Signs"]) == 19


def test_the_new_set_has_69_overtaking_routes():
  found = score(*drives.every(drives.NEW), route_set=drives.NEW)["abilities"]
  assert found["Overtaking"]["routes"] == 69


def test_every_type_of_both_sets_counts_somewhere():
  known = frozenset().union(*abilities.TYPES.values())
  assert set(drives.OLD.types.values()) == known
  assert set(drives.NEW.types.values()) <= known


def test_a_type_may_count_for_two_abilities():
  [blocked] = first("BlockedIntersection")
  found = score(drives.entry(blocked))["abilities"]
  assert found["Emergency_Brake"]["value"] == 100.0
  assert found["Traffic_Signs"]["value"] == 100.0
  assert found["Merging"] == {
      "value": None, "low": None, "high": None, "routes": 0,
      "script": {"value": None, "low": None, "high": None}}


def test_missing_routes_leave_the_denominator():
  a, b = first("Accident", 2)
  found = score(drives.entry(a), drives.entry(b, status="Failed"))["abilities"]
  assert found["Overtaking"]["value"] == 50.0
  assert found["Overtaking"]["low"] == found["Overtaking"]["high"] == 50.0


@pytest.mark.parametrize("change, open_case", [
    (dict(), False),  # it succeeded anyway
    (dict(collisions_vehicle=1), True),
    (dict(status="Failed - Agent got blocked", route=40.0), True),
    (dict(status="Failed - Agent crashed", route=0.0), False),
    (dict(collisions_vehicle=1, red_light=1), False),
    (dict(collisions_vehicle=1, stop_infraction=1), False)])
def test_which_failures_may_still_have_obeyed_the_signs(change, open_case):
  [turn] = first("T_Junction")
  rows = drives.parse(drives.entry(turn, **change))
  assert abilities.open_cases(rows, drives.OLD.types) == [turn] * open_case


def test_other_abilities_have_no_open_case():
  [number] = first("Accident")
  rows = drives.parse(drives.entry(number, collisions_vehicle=1))
  assert abilities.open_cases(rows, drives.OLD.types) == []


def test_without_maps_the_signs_are_bounded():
  # Of 4 routes: a success, two open cases, and a red light.
  a, b, c, d = first("T_Junction", 4)
  entries = (drives.entry(a), drives.entry(b, collisions_vehicle=1),
             drives.entry(c, collisions_vehicle=1),
             drives.entry(d, red_light=1))
  signs = score(*entries)["abilities"]["Traffic_Signs"]
  assert (signs["value"], signs["low"], signs["high"]) == (None, 25.0, 75.0)
  # The script: 8 trials; 2 won by the success, at most 2 by the open cases.
  assert signs["script"] == {"value": None, "low": 25.0, "high": 50.0}
  signs = score(*entries, passed={b: True, c: False})["abilities"][
      "Traffic_Signs"]
  assert (signs["value"], signs["low"], signs["high"]) == (50.0, 50.0, 50.0)
  assert signs["script"]["value"] == 37.5


def test_the_mean_is_of_five_and_bounded_likewise():
  numbers = [first(kind)[0] for kind in (
      "Accident", "ParkingExit", "ControlLoss", "InvadingTurn", "T_Junction")]
  entries = [drives.entry(n) for n in numbers[:4]]
  entries.append(drives.entry(numbers[4], collisions_vehicle=1))
  mean = score(*entries)["mean"]
  # (4 * 100 + 0) / 5 = 80 to 100; the script tries twice: 80 to 90.
  assert (mean["value"], mean["low"], mean["high"]) == (None, 80.0, 100.0)
  assert mean["script"] == {"value": None, "low": 80.0, "high": 90.0}
  assert score(*entries[:3])["mean"]["low"] is None


def test_the_share_at_which_a_junction_is_passed():
  # 40 waypoints, the first in a junction is the 12th: (12 + 8) / 40
  in_junction = [False] * 11 + [True] * 5 + [False] * 24
  assert junctions.entry_share(in_junction, "1711") == 0.5
  with pytest.raises(errors.DataError, match="route 1711 meets no junction"):
    junctions.entry_share([False] * 40, "1711")


@pytest.fixture
def official(tmp_path, monkeypatch):
  """A route set of two routes, its XML and map, and CARLA's stand-ins.

  The planned route of route 7 has 40 waypoints with the junction at the 12th,
  by two legs of 20; that of route 8 has 20 and the junction at the 1st.
  """
  point = '<position x="{}" y="0.5" z="0"/>'.format
  text = "<routes>" + "".join(
      f'<route id="{number}" town="Town77"><waypoints>'
      + "".join(map(point, xs)) + "</waypoints></route>"
      for number, xs in (("7", (0, 20, 40)), ("8", (100, 120)))) + "</routes>"
  (tmp_path / "small.xml").write_text(text)
  (tmp_path / "Town77.xodr").write_text("<OpenDRIVE/>")

  class Map:
    def __init__(self, town, opendrive):
      if opendrive != "<OpenDRIVE/>":
        raise RuntimeError("could not parse")
      self.town = town

  class Planner:
    def __init__(self, road_map, resolution):
      assert road_map.town == "Town77" and resolution == 1.0

    def trace_route(self, start, end):
      return [(types.SimpleNamespace(is_junction=11 <= x < 16 or x >= 100), 4)
              for x in range(int(start[0]), int(end[0]))]

  carla = types.ModuleType("carla")
  carla.Map, carla.Location = Map, lambda x, y, z: (x, y, z)
  planner = types.ModuleType("global_route_planner")
  planner.GlobalRoutePlanner = Planner
  navigation = types.ModuleType("navigation")
  navigation.global_route_planner = planner
  for name, module in (("carla", carla), ("agents", types.ModuleType("agents")),
                       ("agents.navigation", navigation)):
    monkeypatch.setitem(sys.modules, name, module)
  return route_sets.RouteSet("small.xml", hashlib.sha256(
      text.encode()).hexdigest(), {"7": "T_Junction", "8": "T_Junction"})


def test_a_route_is_past_its_junction_strictly(official, tmp_path):
  # Route 7: (12 + 8) / 40 = 0.5. Route 8: (1 + 8) / 20 = 0.45.
  for completion, want in ((50.0, {"7": False, "8": True}),
                           (50.1, {"7": True, "8": True}),
                           (45.0, {"7": False, "8": False})):
    rows = drives.parse(*(drives.entry(n, route=completion, status="Failed")
                          for n in ("7", "8")))
    assert junctions.passed(rows, official, str(tmp_path)) == want


def test_the_xml_may_lie_elsewhere(official, tmp_path):
  (tmp_path / "other").mkdir()
  (tmp_path / "small.xml").rename(tmp_path / "other" / "routes.xml")
  rows = drives.parse(drives.entry("7", route=60.0))
  assert junctions.passed(rows, official, str(tmp_path), str(
      tmp_path / "other" / "routes.xml")) == {"7": True}
  with pytest.raises(errors.DataError, match="small.xml.*with --routes"):
    junctions.passed(rows, official, str(tmp_path))


def test_another_xml_is_refused_by_its_hash(official, tmp_path):
  (tmp_path / "small.xml").write_text("<routes/>")
  with pytest.raises(errors.DataError, match=f"has {official.sha256}"):
    junctions.passed(drives.parse(drives.entry("7")), official, str(tmp_path))


@pytest.mark.parametrize("content, match", [
    (None, "Town77.xodr: No such file"), ("x", "not a map that CARLA reads")])
def test_a_map_that_is_missing_or_broken_is_named(
    official, tmp_path, content, match):
  (tmp_path / "Town77.xodr").unlink()
  if content:
    (tmp_path / "Town77.xodr").write_text(content)
  with pytest.raises(errors.DataError, match=match):
    junctions.passed(drives.parse(drives.entry("7")), official, str(tmp_path))


@pytest.mark.parametrize("absent, match", [
    ("carla", r"pip install -e '\.\[carla\]'"),
    ("agents.navigation", "PythonAPI/carla")])
def test_absent_packages_are_named_with_the_remedy(
    official, tmp_path, monkeypatch, absent, match):
  monkeypatch.setitem(sys.modules, absent, None)
  with pytest.raises(errors.ConfigError, match=match):
    junctions.passed(drives.parse(drives.entry("7")), official, str(tmp_path))


def test_nothing_open_needs_nothing():
  assert junctions.passed([], None, "nowhere") == {}
