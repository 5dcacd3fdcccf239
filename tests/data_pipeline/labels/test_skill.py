"""Every skill rule and their order, on drives made by hand."""

import pytest

from data_pipeline.labels import constants as consts
from tests.data_pipeline.labels import drives
from tests.data_pipeline.labels.drives import POLICE, bypass, spot


def constant(kind, frames=20, road_map=None, **moment):
  """runs of the skill labels of a drive that never changes."""
  return drives.skills(kind, [drives.moment(**moment)] * frames, road_map)


# S1: parking exits.


def test_a_parking_exit_is_one_while_the_camera_rule_holds():
  moments = [drives.moment(0.3 * t, -0.5 * max(t - 10, 0), near=1 if t < 3
                           else 4) for t in range(20)]
  label = drives.label("ParkingExit", moments)
  # In the first frames the turn has the camera, the skill is the same.
  assert drives.runs(label.camera) == [
      ("CAM_FRONT_LEFT", 0, 2), ("CAM_BACK_LEFT", 3, 13)]
  assert drives.runs(label.skill) == [("PARKING_EXIT", 0, 13)]
  assert label.skill_rule == ["S1"] * 14 + ["S7"] * 6


# S2: overtaking.


@pytest.mark.parametrize("out, returns, last", [
    (drives.LEFT_LANE, 60, 62), (drives.OPPOSING, 60, 62),
    (drives.LEFT_LANE, 90, 41), (drives.OPPOSING, 90, 89),
    (drives.OWN, 60, 41)])
def test_overtaking_lasts_until_the_return_or_past_the_obstacle(
    out, returns, last):
  moments = bypass("ParkedObstacle", out, returns=returns)
  assert drives.skills("ParkedObstacle", moments) == [("OVERTAKING", 21, last)]


def test_overtaking_comes_before_a_light():
  moments = bypass("ParkedObstacle")
  for t in range(0, 90):
    moments[t]["bounding_boxes"].append(
        drives.moment(boxes=[drives.light(39.0)])["bounding_boxes"][1])
  assert drives.skills("ParkedObstacle", moments) == [
      ("TRAFFIC_LIGHT", 0, 20), ("OVERTAKING", 21, 62),
      ("TRAFFIC_LIGHT", 63, 89)]


# S3: emergency braking.


def braking(kind, box, **more):
  """Frames 20..23 of 40 brake; the hazard is there before 30."""
  return drives.skills(kind, [
      drives.moment(**{"brake": 0.6 if 20 <= t < 24 else 0.0} | more,
                    boxes=[box] if t < 30 else []) for t in range(40)])


# A brake in t-5..t+10 counts: t = 10..28. Then five frames more.
BRAKED = [("EMERGENCY_BRAKE", 10, 33)]


@pytest.mark.parametrize("kind, box", [
    ("DynamicObjectCrossing", drives.walker(12.0, 3.0)),
    ("PedestrianCrossing", drives.walker(19.9)),
    ("ParkingCrossingPedestrian", drives.bicycle(12.0)),
    ("VehicleTurningRoute", drives.bicycle(12.0)),
    ("VehicleTurningRoutePedestrian", drives.walker(12.0, -4.5)),
    ("HardBreakRoute", drives.car(12.0)),
    ("BlockedIntersection", drives.car(12.0, 4.5)),
    ("OppositeVehicleTakingPriority",
     drives.car(-20.0, -20.0, speed=5.0, type_id=POLICE)),
    ("OppositeVehicleRunningRedLight",
     drives.car(20.0, 20.0, speed=5.0, type_id="vehicle.ford.ambulance")),
    ("ParkingCutIn", drives.car(9.0, 5.0, speed=4.0, turned=-0.3)),
    ("StaticCutIn", drives.car(9.0, 5.0, speed=4.0, turned=-0.3)),
    ("ControlLoss", drives.sign(15.0, type_id="static.prop.dirtdebris02"))])
def test_each_type_brakes_for_its_hazard_while_it_is_there(kind, box):
  assert braking(kind, box) == BRAKED
  assert braking(kind, box, brake=0.5) == []
  assert braking(kind, box, brake=None) == []
  assert braking(kind, box, brake=0.0, only_ap_brake=True) == [
      ("EMERGENCY_BRAKE", 5, 34)]
  assert braking("TJunction", box) == []


@pytest.mark.parametrize("kind, box", [
    ("DynamicObjectCrossing", drives.car(12.0)),
    ("DynamicObjectCrossing", drives.walker(12.0, 4.6)),
    ("DynamicObjectCrossing", drives.walker(20.1)),
    ("DynamicObjectCrossing", drives.walker(-0.1)),
    ("DynamicObjectCrossing", drives.walker(12.0, points=4)),
    ("DynamicObjectCrossing", drives.bicycle(12.0, points=9)),
    ("HardBreakRoute", drives.walker(12.0)),
    ("HardBreakRoute", drives.car(12.0, points=14)),
    ("HardBreakRoute", drives.car(12.0, state="static")),
    ("OppositeVehicleTakingPriority", drives.car(9.0, speed=5.0)),
    ("OppositeVehicleTakingPriority",
     drives.car(9.0, speed=4.0, type_id=POLICE)),
    ("OppositeVehicleTakingPriority",
     drives.car(30.1, speed=5.0, type_id=POLICE)),
    ("ParkingCutIn", drives.car(9.0, 5.0, speed=4.0, turned=0.3)),
    ("ControlLoss", drives.sign(20.1, type_id="static.prop.dirtdebris02")),
    ("ControlLoss", drives.sign(9.0, type_id="static.prop.trafficwarning"))])
def test_what_is_no_hazard_of_the_type_is_none(kind, box):
  assert braking(kind, box) == []


def test_a_walkers_speed_is_never_asked_for():
  box = drives.walker(12.0)
  for speed in (0.0, None, float("nan")):
    assert braking("PedestrianCrossing", box | {"speed": speed}) == BRAKED


# S4: giving way.


def test_giving_way_lasts_while_its_camera_rules_hold():
  # Also in a junction, where the turn has the camera.
  box = drives.car(-9.0, 3.0, speed=9.0, type_id=POLICE)
  label = drives.label("YieldToEmergencyVehicle",
                       [drives.moment(boxes=[box], near=1)] * 9)
  assert drives.runs(label.camera) == [("CAM_FRONT_LEFT", 0, 8)]
  assert drives.runs(label.skill) == [("GIVEWAY", 5, 8)]
  cone = drives.sign(9.0, type_id="static.prop.constructioncone")
  assert constant("InvadingTurn", 9, boxes=[cone]) == [("GIVEWAY", 5, 8)]


@pytest.mark.parametrize("kind, name", [
    ("HighwayCutIn", "GIVEWAY_HIGHWAY"),
    ("InterurbanAdvancedActorFlow", "GIVEWAY_HIGHWAY"),
    ("EnterActorFlow", None)])
def test_giving_way_on_the_highway_has_a_name_of_its_own(kind, name):
  box = drives.car(9.0, 4.0, speed=9.0, turned=-0.2)
  assert constant(kind, 9, boxes=[box]) == ([(name, 5, 8)] if name else [])


# S5: merging.


@pytest.mark.parametrize("moment, name", [
    ({"near": 5}, "MERGING_HIGHWAY"), ({"near": 6}, "MERGING_HIGHWAY"),
    ({"far": 6, "far_at": 14.0}, "MERGING_HIGHWAY"),
    ({"near": 1}, "MERGING_JUNCTION"), ({"near": 3}, "MERGING_JUNCTION"),
    ({"far": 2, "far_at": 14.9}, "MERGING_JUNCTION"),
    ({"far": 2, "far_at": 15.1}, None), ({"far": 3, "far_at": 9.0}, None),
    ({}, None)])
def test_merging_is_commanded_or_at_a_junction(moment, name):
  assert constant("CrossingBicycleFlow", 9, **moment) == (
      [(name, 0, 8)] if name else [])
  assert constant("TJunction", 9, **moment) == []


def test_merging_on_the_highway_lasts_while_its_camera_rule_holds():
  lanes = [drives.LEFT_LANE] * 20 + [drives.OWN] * 9
  moments = [drives.moment(lane=lane) for lane in lanes]
  assert drives.skills("HighwayExit", moments) == [("MERGING_HIGHWAY", 0, 19)]
  assert drives.skills("LaneChange", moments) == []


def test_sequential_lane_change_and_t_junction_have_two_names():
  for alias, kind in (("SequentialLaneChange", "LaneChange"),
                      ("T_Junction", "TJunction")):
    assert consts.canonical(f"{alias}_Town01_Route1_Weathe") == (
        f"{kind}_Town01_Route1_Weathe")
    assert kind in consts.KNOWN


# S6: stop signs and lights.


def test_a_light_that_affects_the_car_counts_within_40_m_and_before_it():
  inside = drives.moment(boxes=[drives.light(9.0)], near=1)
  moments = [drives.moment(boxes=[drives.light(d)]) for d in (41.0, 40.1)]
  moments += [drives.moment(boxes=[drives.light(39.9)])] * 2 + [inside] * 3
  moments += [drives.moment(boxes=[drives.light(9.0, affects=False)])] * 2
  # Lights count from the first frame: they do not come into being.
  assert drives.skills("TJunction", moments[2:]) == [("TRAFFIC_LIGHT", 0, 1)]
  assert drives.skills("TJunction", moments) == [("TRAFFIC_LIGHT", 2, 3)]
  spots = [spot(junction=True)] * 9
  assert drives.skills("TJunction", moments, drives.Map(spots)) == []


@pytest.mark.parametrize("options, counts", [
    ({"affects": True}, True), ({"affects": True, "x": 40.1}, False),
    ({"affects": False}, False), ({"area_at": (39.9, 3.4)}, True),
    ({"area_at": (40.1, 0.0)}, False), ({"area_at": (9.0, -3.6)}, False),
    ({"area_at": (-2.5, 0.0)}, True), ({"area_at": (-2.7, 0.0)}, False)])
def test_a_stop_sign_counts_by_its_flag_or_by_its_area(options, counts):
  options = {"x": 20.0, "type_id": "traffic.stop"} | options
  box = drives.sign(**options)
  assert constant("TJunction", 4, boxes=[box]) == (
      [("TRAFFIC_SIGN", 0, 3)] if counts else [])
  limit = drives.sign(**options | {"type_id": "traffic.speed_limit.60"})
  assert constant("TJunction", 4, boxes=[limit]) == []


def test_a_stop_sign_counts_in_a_junction_and_before_a_light():
  boxes = [drives.light(9.0),
           drives.sign(9.0, type_id="traffic.stop", affects=True)]
  assert constant("TJunction", 4, boxes=boxes) == [("TRAFFIC_SIGN", 0, 3)]
  assert constant("TJunction", 4, boxes=boxes, near=3) == [
      ("TRAFFIC_SIGN", 0, 3)]


# S7.


def test_otherwise_driving_is_normal():
  label = drives.label("Unheard", [drives.moment()] * 4)
  assert label.skill == ["NORMAL"] * 4
  assert label.skill_rule == ["S7"] * 4
