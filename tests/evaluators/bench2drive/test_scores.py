"""Scores of hand-made records, with the numbers worked out beside them."""

import pytest

from drivemoe_jax.evaluators.bench2drive import scores
from tests.evaluators.bench2drive import drives


@pytest.mark.parametrize("kind, factor", [
    ("collisions_pedestrian", 0.5), ("collisions_vehicle", 0.6),
    ("collisions_layout", 0.65), ("red_light", 0.7), ("stop_infraction", 0.8),
    ("scenario_timeouts", 0.7), ("yield_emergency_vehicle_infractions", 0.7),
    ("route_dev", 1.0), ("vehicle_blocked", 1.0), ("route_timeout", 1.0)])
def test_each_infraction_costs_its_factor_each_time(kind, factor):
  one, two = drives.parse(drives.entry(**{kind: 1}), drives.entry(**{kind: 2}))
  assert scores.penalty(one) == pytest.approx(factor)
  assert scores.penalty(two) == pytest.approx(factor**2)
  assert not one.success  # the cheapest entry fails the route, too


def test_minimum_speed_costs_nothing_and_fails_nothing():
  [record] = drives.parse(drives.entry(
      min_speed_infractions=[drives.SPEED.format(12.5)]))
  assert scores.penalty(record) == 1.0 and record.success


def test_lanes_left_cost_their_share():
  # (1 - 0.1727) * (1 - 0.05) = 0.785935
  [record] = drives.parse(drives.entry(outside_route_lanes=[
      drives.LANES.format(17.27), drives.LANES.format("5")]))
  assert scores.penalty(record) == pytest.approx(0.785935)
  assert not record.success


def test_a_whole_charge_sheet_multiplies():
  # 0.5 * 0.6^2 * 0.65 * 0.7 * 0.8 * 0.7 * 0.7 * 0.9 = 0.0288947...
  # 0.5*0.36 = 0.18; *0.65 = 0.117; *0.7 = 0.0819; *0.8 = 0.06552;
  # *0.49 = 0.0321048; *0.9 = 0.02889432
  [record] = drives.parse(drives.entry(
      collisions_pedestrian=1, collisions_vehicle=2, collisions_layout=1,
      red_light=1, stop_infraction=1, scenario_timeouts=1,
      yield_emergency_vehicle_infractions=1,
      outside_route_lanes=[drives.LANES.format(10.0)]))
  assert scores.penalty(record) == pytest.approx(0.02889432)


@pytest.mark.parametrize("status, success", [
    ("Perfect", True), ("Completed", True), ("Failed", False),
    ("Failed - Agent got blocked", False),
    ("Failed - Agent deviated from the route", False),
    ("Failed - Agent timed out", False), ("Failed - TickRuntime", False),
    ("Failed - Agent crashed", False), ("Failed - Simulation crashed", False),
    ("Started", False)])
def test_only_a_finished_route_succeeds(status, success):
  [record] = drives.parse(drives.entry(status=status))
  assert record.success is success


def test_a_kind_we_do_not_know_fails_the_route_as_officially():
  [record] = drives.parse(drives.entry(new_kind=["x"]))
  assert not record.success


def test_totals_are_divided_by_220():
  rows = drives.parse(
      drives.entry("1711"),                              # 100, success
      drives.entry("1773", collisions_vehicle=1, penalty=0.6),  # 60
      drives.entry("1790", status="Failed - Agent got blocked", route=50.5))
  # (100 + 60 + 50.5) / 220 = 0.956818..., 1 / 220 = 0.454545... %
  assert scores.driving_score(rows) == pytest.approx(210.5 / 220)
  assert scores.success_rate(rows) == pytest.approx(100 / 220)
  assert scores.driving_score([]) == 0.0


def test_efficiency_averages_routes_not_values():
  speed = drives.SPEED.format
  rows = drives.parse(
      # (50 + 150) / 2 = 100; 1000.1 % is dropped, 1000 % would not be.
      drives.entry("1711", min_speed_infractions=[
          speed(50.0), speed("150"), speed(1000.1)]),
      drives.entry("1773", min_speed_infractions=[speed("1000")]),
      drives.entry("1790"),                              # no entry: not counted
      drives.entry("1792", min_speed_infractions=[speed(1479.25)]))
  mean, routes, unread = scores.efficiency(rows)
  assert routes == {"1711": 100.0, "1773": 1000.0}
  assert mean == 550.0 and unread == []


def test_efficiency_of_nothing_is_none_and_oddities_are_named():
  rows = drives.parse(drives.entry("1711", min_speed_infractions=["slow"]),
                      drives.entry("1773"))
  assert scores.efficiency(rows) == (None, {}, ["1711"])


def test_stored_penalties_are_held_against_the_strings():
  lanes = [drives.LANES.format(0.12)]
  rows = drives.parse(
      # Rounded in the string: 0.9988 against 0.99935 stored, 5.5e-4 off.
      drives.entry("1711", outside_route_lanes=lanes, penalty=0.99935),
      drives.entry("1773", collisions_vehicle=1, penalty=1.0),  # edited
      drives.entry("1790", route=80.0, composed=90.0),          # edited
      drives.entry("1792", outside_route_lanes=["left"], penalty=0.9))
  found = scores.check_penalties(rows)
  assert found["checked"] == 4
  assert found["max_difference"] == pytest.approx(0.4)
  assert [(m["route"], m["stored"]) for m in found["mismatches"]] == [
      ("1773", 1.0), ("1790", 1.0), ("1792", 0.9)]
  assert found["mismatches"][2]["derived"] is None


def test_the_tolerance_is_2e_3():
  lanes = [drives.LANES.format(10.0)]
  rows = drives.parse(
      drives.entry("1711", outside_route_lanes=lanes, penalty=0.9019),
      drives.entry("1773", outside_route_lanes=lanes, penalty=0.9021))
  assert [m["route"] for m in scores.check_penalties(rows)["mismatches"]] == [
      "1773"]


def test_infractions_and_statuses_are_counted():
  rows = drives.parse(
      drives.entry("1711", red_light=2), drives.entry("1773", red_light=1),
      drives.entry("1790", status="Perfect"))
  totals = scores.infractions(rows)
  assert totals["red_light"] == {"total": 3, "routes": 2}
  assert totals["stop_infraction"] == {"total": 0, "routes": 0}
  assert scores.statuses(rows) == {"Completed": 2, "Perfect": 1}
