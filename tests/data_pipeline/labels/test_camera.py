"""Every camera rule and every tie-break, on drives made by hand."""

import math

import pytest

from data_pipeline.labels import bypass as bypasses
from data_pipeline.labels import constants as consts
from data_pipeline.labels import opendrive
from tests.data_pipeline.labels import drives

C = consts.DEFAULTS
CONE = "static.prop.constructioncone"
WARNING = "static.prop.trafficwarning"
POLICE = "vehicle.dodge.charger_police_2020"
DOOR = "vehicle.mercedes.coupe_2020"


def spot(*, junction=False, ahead=False, parking=False,
         sides=("LEFT", "RIGHT")):
  return opendrive.Spot(junction, ahead, parking, frozenset(sides))


def constant(kind, frames=20, road_map=None, **moment):
  """runs of the camera labels of a drive that never changes."""
  return drives.cameras(kind, [drives.moment(**moment)] * frames, road_map)


# C1: turns in junctions.


@pytest.mark.parametrize("near, name", [
    (1, "CAM_FRONT_LEFT"), (2, "CAM_FRONT_RIGHT"), (3, None), (4, None)])
def test_a_turn_looks_to_its_side_while_in_the_junction(near, name):
  moments = ([drives.moment()] * 6 + [drives.moment(near=near)] * 5
             + [drives.moment()] * 4)
  assert drives.cameras("TJunction", moments) == (
      [(name, 6, 10)] if name else [])


def test_a_turn_comes_before_every_other_rule():
  boxes = [drives.car(10.0)]
  moments = ([drives.moment(boxes=boxes)] * 8
             + [drives.moment(near=1, boxes=boxes)] * 3
             + [drives.moment(boxes=boxes)] * 3)
  label = drives.label("ParkedObstacle", moments)
  assert drives.runs(label.camera) == [
      ("CAM_BACK_LEFT", 5, 7), ("CAM_FRONT_LEFT", 8, 10),
      ("CAM_BACK_LEFT", 11, 13)]
  assert label.camera_rule == ["C9"] * 5 + ["C4"] * 3 + ["C1"] * 3 + ["C4"] * 3


# C2: emergency vehicles.


def emergency(x, y, *, moments=9, lanes=None, **more):
  box = drives.car(x, y, **{"speed": 9.0, "type_id": POLICE, **more})
  lanes = lanes or [drives.OWN] * moments
  return drives.cameras("YieldToEmergencyVehicle", [
      drives.moment(boxes=[box], lane=lane) for lane in lanes])


@pytest.mark.parametrize("x, y, name", [
    (-20.0, -2.0, "CAM_BACK_LEFT"), (-20.0, 2.0, "CAM_BACK_RIGHT"),
    (2.0, -2.0, "CAM_FRONT_LEFT"), (0.0, 2.0, "CAM_FRONT_RIGHT"),
    (-20.0, 1.75, "CAM_BACK_LEFT"), (-20.0, 0.0, "CAM_BACK_LEFT")])
def test_an_emergency_vehicle_is_looked_at(x, y, name):
  assert emergency(x, y) == [(name, 5, 8)]


@pytest.mark.parametrize("change, more", [
    ({"x": -40.1}, {}), ({"x": 4.1}, {}), ({}, {"speed": 4.0}),
    ({}, {"points": 14}), ({}, {"type_id": "vehicle.audi.a2"})])
def test_one_that_is_away_slow_hidden_or_another_car_is_not(change, more):
  assert emergency(**{"x": -20.0, "y": 2.0} | change, **more) == []


def test_one_in_line_takes_the_side_of_the_foreseen_lane_change():
  lanes = [drives.LEFT_LANE] * 12 + [drives.OWN] * 4
  assert emergency(-9.0, 0.0, lanes=lanes) == [
      ("CAM_BACK_RIGHT", 5, 11), ("CAM_BACK_LEFT", 12, 15)]
  # A change more than 60 frames away is not foreseen.
  lanes = [drives.LEFT_LANE] * 70 + [drives.OWN] * 4
  assert emergency(-9.0, 0.0, lanes=lanes)[0] == ("CAM_BACK_LEFT", 5, 9)


@pytest.mark.parametrize("kind", ["police", "ambulance", "firetruck"])
def test_all_three_kinds_of_emergency_vehicle_count(kind):
  assert emergency(-9.0, 5.0, type_id=f"vehicle.make.{kind}") != []


def test_the_nearest_counts_and_of_equals_the_smaller_number():
  near = drives.car(-9.0, 3.0, id=8, speed=9.0, type_id=POLICE)
  far = drives.car(-12.0, -3.0, id=2, speed=9.0, type_id=POLICE)
  twin = drives.car(-9.0, -3.0, id=10, speed=9.0, type_id=POLICE)
  for boxes in ([near, far], [far, near], [twin, near], [near, twin]):
    assert constant("YieldToEmergencyVehicle", 7, boxes=boxes) == [
        ("CAM_BACK_RIGHT", 5, 6)]


# C3: parking exits.


def leaving(direction, road_map=None):
  """Half a metre sideways per frame from frame 10 on; 1.75 m at frame 14."""
  return drives.cameras("ParkingExit", [
      drives.moment(0.3 * t, direction * 0.5 * max(t - 10, 0))
      for t in range(20)], road_map)


def test_a_parking_exit_looks_back_until_the_car_is_out_of_its_slot():
  assert leaving(-1) == [("CAM_BACK_LEFT", 0, 13)]
  assert leaving(+1) == [("CAM_BACK_RIGHT", 0, 13)]
  assert leaving(0) == [("CAM_BACK_LEFT", 0, 19)]


def test_a_map_knows_the_end_of_the_parking_lane():
  road_map = drives.Map([spot(parking=t < 17) for t in range(20)])
  assert leaving(+1, road_map) == [("CAM_BACK_RIGHT", 0, 16)]
  road_map = drives.Map([spot()] * 20)  # the slot is not drawn as one
  assert leaving(+1, road_map) == [("CAM_BACK_RIGHT", 0, 13)]


def test_only_a_parking_exit_has_a_slot():
  assert constant("ParkingCutIn") == []


# C4: bypasses. A metre a frame; the obstacle stands at 40.25 m.


def bypass(kind, out=drives.LEFT_LANE, *, box=None, frames=90, leaves=30,
           returns=60):
  box = box or (lambda x: drives.car(x))
  lanes = [out if leaves <= t < returns else drives.OWN
           for t in range(frames)]
  return [drives.moment(float(t), lane=lane, boxes=[box(40.25 - t)])
          for t, lane in enumerate(lanes)]


def test_a_bypass_looks_out_and_back_with_a_gap_while_alongside():
  # In sight at 21 (19.25 m < 20 m). The new lane has held after 30, 31, 32; the
  # way back counts 12 frames ahead of 60 and until 60, 61, 62 hold.
  assert drives.cameras("ParkedObstacle", bypass("ParkedObstacle")) == [
      ("CAM_BACK_LEFT", 21, 32), ("CAM_BACK_RIGHT", 48, 62)]


def test_over_the_middle_it_looks_forward_and_back_again_rearward():
  moments = bypass("ParkedObstacle", drives.OPPOSING)
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_FRONT_LEFT", 21, 32), ("CAM_BACK_RIGHT", 48, 62)]


@pytest.mark.parametrize("out", [drives.LEFT_LANE, drives.OPPOSING])
def test_a_two_way_type_looks_forward_both_times(out):
  moments = bypass("ParkedObstacleTwoWays", out)
  assert drives.cameras("ParkedObstacleTwoWays", moments) == [
      ("CAM_FRONT_LEFT", 21, 32), ("CAM_FRONT_RIGHT", 48, 62)]


def test_a_way_out_to_the_right_swaps_the_sides():
  moments = bypass("ParkedObstacle", (1, 0, -3))
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_RIGHT", 21, 32), ("CAM_BACK_LEFT", 48, 62)]


def test_a_quick_return_begins_when_the_way_out_has_held():
  moments = bypass("ParkedObstacle", leaves=38, returns=44)
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 40), ("CAM_BACK_RIGHT", 41, 46)]


def test_lane_ids_counted_anew_do_not_hide_the_return():
  moments = bypass("ParkedObstacle")
  for t in range(45, 90):  # a new section: lanes -2 and -1 are -5 and -4
    ego = moments[t]["bounding_boxes"][0]
    ego["section_id"], ego["lane_id"] = 1, ego["lane_id"] - 3
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 32), ("CAM_BACK_RIGHT", 48, 62)]


def test_a_further_change_to_the_same_side_is_no_return():
  moments = bypass("ParkedObstacle", frames=70, returns=70)
  for t in range(45, 70):  # a new section, where -2 and -1 are called -5, -4
    ego = moments[t]["bounding_boxes"][0]
    ego["section_id"], ego["lane_id"] = 1, -5 if t < 55 else -4
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 32)]


def test_a_change_of_lane_behind_the_obstacle_is_no_part_of_the_bypass():
  moments = bypass("ParkedObstacle", leaves=50)
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 41)]


def test_two_obstacles_in_sight_are_one_bypass_until_both_are_passed():
  moments = [drives.moment(float(t), boxes=[
      drives.car(40.25 - t), drives.car(52.25 - t, id=8)]) for t in range(90)]
  span, = bypasses.find(drives.read("ParkedObstacle", moments), C)
  assert (span.start, span.until) == (21, 54)


def test_an_obstacle_that_moves_on_is_passed_where_it_is():
  # A bicycle at half the ego's speed: in sight at 11, 10 m behind at 71.
  moments = [drives.moment(float(t), boxes=[
      drives.bicycle(25.25 - 0.5 * t, 1.0)]) for t in range(90)]
  assert drives.cameras("HazardAtSideLane", moments) == [
      ("CAM_BACK_LEFT", 11, 70)]


def test_where_an_obstacle_is_before_the_scene_has_settled_does_not_matter():
  moments = bypass("ParkedObstacle", drives.OWN)
  moments[:5] = [drives.moment(float(t), boxes=[drives.car(90.0)])
                 for t in range(5)]
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 41)]


def test_without_a_change_of_lane_it_looks_left_until_the_obstacle_is_passed():
  # Behind by more than 1.5 m from 42 on.
  moments = bypass("ParkedObstacle", drives.OWN)
  assert drives.cameras("ParkedObstacle", moments) == [
      ("CAM_BACK_LEFT", 21, 41)]


def test_a_drive_that_ends_on_the_way_out_keeps_its_view():
  assert drives.cameras("ParkedObstacle", bypass("", frames=31)) == [
      ("CAM_BACK_LEFT", 21, 30)]


def test_a_second_obstacle_is_a_second_bypass():
  moments = bypass("ParkedObstacle")
  later = [drives.moment(90.0 + t, boxes=[drives.car(15.0 - t, id=77)])
           for t in range(30)]
  assert drives.cameras("ParkedObstacle", moments + later)[2:] == [
      ("CAM_BACK_LEFT", 90, 106)]


@pytest.mark.parametrize("kind, box, passed", [
    ("Accident", lambda x: drives.car(x, type_id=POLICE), 16),
    ("ConstructionObstacle", lambda x: drives.sign(x, type_id=WARNING), 15),
    ("HazardAtSideLane", lambda x: drives.bicycle(x, 1.0), 10),
    ("VehicleOpensDoor", lambda x: drives.car(x, type_id=DOOR), 1.5),
    ("ParkedObstacle", lambda x: drives.car(x, -5.25), 1.5)])
def test_each_type_has_its_obstacle_and_its_way_of_passing(kind, box, passed):
  moments = bypass(kind, drives.OWN, box=box)
  assert drives.cameras(kind, moments) == [
      ("CAM_BACK_LEFT", 21, math.floor(40.25 + passed))]
  for other in ("Accident", "ConstructionObstacle", "HazardAtSideLane",
                "VehicleOpensDoor", "ParkedObstacle", "TJunction"):
    stands = other == "ParkedObstacle" and kind != "ConstructionObstacle"
    if other != kind and not stands:
      assert drives.cameras(other, bypass(other, box=box)) == []


@pytest.mark.parametrize("box", [
    lambda x: drives.car(x, 5.3), lambda x: drives.car(x, speed=0.6),
    lambda x: drives.car(x, points=14), lambda x: drives.car(x, state="static"),
    lambda x: drives.car(15.0), lambda x: drives.walker(x),
    lambda x: drives.car(x, speed=None), lambda x: drives.car(x, points=None)])
def test_what_is_aside_moving_hidden_or_of_the_map_is_no_parked_obstacle(box):
  assert drives.cameras("ParkedObstacle", bypass("", box=box)) == []


def test_an_obstacle_behind_is_none():
  assert constant("ParkedObstacle", boxes=[drives.car(-1.5)]) == []
  assert constant("ParkedObstacle", boxes=[drives.car(-1.4)]) != []
  warning = drives.sign(-0.1, type_id=WARNING)
  assert constant("ConstructionObstacle", boxes=[warning]) == []


@pytest.mark.parametrize("own, lane, counts", [
    (-1, -1, True), (-1, -2, True), (-2, -1, False), (1, 2, True),
    (2, 1, False), (-1, 1, False)])
def test_bicycles_count_in_the_own_and_the_right_hand_lane(own, lane, counts):
  box = drives.bicycle(9.0, lane=(1, 0, lane))
  found = constant("HazardAtSideLane", lane=(1, 0, own), boxes=[box])
  assert bool(found) == counts
  other_road = drives.bicycle(9.0, lane=(2, 0, lane))
  assert not constant("HazardAtSideLane", lane=(1, 0, own),
                      boxes=[other_road])


def test_a_bicycle_needs_ten_points_and_maybe_no_section():
  box = drives.bicycle(9.0)
  assert constant("HazardAtSideLane", boxes=[box | {"num_points": 9}]) == []
  del box["section_id"]
  assert constant("HazardAtSideLane", boxes=[box]) != []


# C5: invading turns.


def test_cones_look_front_left_from_the_first_to_the_last():
  far, near, behind = (drives.sign(x, -2.0, type_id=CONE)
                       for x in (25.0, 12.0, 1.4))
  moments = [drives.moment(boxes=[box]) for box in
             [far] * 8 + [near] * 3 + [behind] * 4 + [near] * 2 + [behind] * 3]
  assert drives.cameras("InvadingTurn", moments) == [
      ("CAM_FRONT_LEFT", 8, 16)]
  assert drives.cameras("TJunction", moments) == []


# C6: commanded changes.


@pytest.mark.parametrize("kind", ["TJunction", "LaneChange", "Unheard"])
def test_a_commanded_change_looks_back_from_the_first_frame(kind):
  left, right, none = (drives.moment(near=near) for near in (5, 6, -1))
  moments = [left] * 3 + [none] + [left] * 2 + [right] * 4
  assert drives.cameras(kind, moments) == [
      ("CAM_BACK_LEFT", 0, 2), ("CAM_BACK_LEFT", 4, 5),
      ("CAM_BACK_RIGHT", 6, 9)]


def test_a_map_must_have_a_lane_on_the_commanded_side():
  sides = [("LEFT",), ("RIGHT",), (), ("LEFT", "RIGHT")]
  road_map = drives.Map([spot(sides=side) for side in sides])
  assert constant("LaneChange", 4, road_map, near=5) == [
      ("CAM_BACK_LEFT", 0, 0), ("CAM_BACK_LEFT", 3, 3)]


# C7: highways.


def highway(lanes, road_map=None, kind="HighwayExit", **commands):
  """A drive on these lanes; commands: {name: {frame: command}}."""
  return drives.cameras(kind, [
      drives.moment(float(t), lane=lane, **{
          name: at.get(t, 4) for name, at in commands.items()})
      for t, lane in enumerate(lanes)], road_map)


TO_RIGHT = [drives.LEFT_LANE] * 20 + [drives.OWN] * 20


@pytest.mark.parametrize("kind", [
    "HighwayExit", "MergerIntoSlowTraffic", "MergerIntoSlowTrafficV2",
    "InterurbanActorFlow"])
def test_a_highway_looks_back_until_the_first_change(kind):
  assert highway(TO_RIGHT, kind=kind) == [("CAM_BACK_RIGHT", 0, 19)]
  assert highway(TO_RIGHT, kind="LaneChange") == []


def test_the_first_command_names_the_side_of_the_change():
  lanes = [drives.OWN] * 10 + [drives.LEFT_LANE] * 10 + [drives.OWN] * 20
  # By the first command the change to the right counts, not the earlier one.
  assert highway(lanes, near={25: 6, 30: 5}) == [
      ("CAM_BACK_RIGHT", 0, 19), ("CAM_BACK_RIGHT", 25, 25),
      ("CAM_BACK_LEFT", 30, 30)]
  assert highway(lanes) == [("CAM_BACK_LEFT", 0, 9)]


def test_a_command_that_is_never_followed_ends_with_itself():
  assert highway([drives.OWN] * 30, near={8: 5, 9: 5, 20: 6}) == [
      ("CAM_BACK_LEFT", 0, 9), ("CAM_BACK_RIGHT", 20, 20)]


def test_a_change_that_is_too_far_away_is_not_foreseen():
  late = [drives.LEFT_LANE] * 61 + [drives.OWN] * 9
  assert highway(late) == []


def test_after_the_change_a_junction_looks_front_to_the_first_turn():
  far = {t: 3 for t in range(30, 34)} | {39: 2}
  moments = [drives.moment(float(t), lane=lane, far=far.get(t, 4), far_at=8.0)
             for t, lane in enumerate(TO_RIGHT)]
  assert drives.cameras("HighwayExit", moments) == [
      ("CAM_BACK_RIGHT", 0, 19), ("CAM_FRONT_RIGHT", 30, 33),
      ("CAM_FRONT_RIGHT", 39, 39)]
  for t in range(40):
    moments[t] = drives.moment(float(t), lane=TO_RIGHT[t], far=far.get(t, 4),
                               far_at=8.1)
  assert drives.cameras("HighwayExit", moments) == [("CAM_BACK_RIGHT", 0, 19)]


def test_without_a_turn_a_junction_needs_no_view():
  assert highway(TO_RIGHT, near={t: 3 for t in range(30, 34)}) == [
      ("CAM_BACK_RIGHT", 0, 19)]


def test_a_map_tells_of_the_junction_ahead():
  spots = [spot(ahead=26 <= t < 30, junction=30 <= t < 33) for t in range(40)]
  assert highway(TO_RIGHT, drives.Map(spots), far={39: 1}) == [
      ("CAM_BACK_RIGHT", 0, 19), ("CAM_FRONT_LEFT", 26, 32)]


# C8: vehicles that merge or cut in.


def meeting(x, y, turned, kind="HighwayCutIn", **more):
  box = drives.car(x, y, **{"turned": turned, "speed": 8.0, **more})
  return constant(kind, 7, boxes=[box])


@pytest.mark.parametrize("x, y, turned, name", [
    (10.0, -4.0, 0.1, "CAM_FRONT_LEFT"), (10.0, 4.0, -0.1, "CAM_FRONT_RIGHT"),
    (-10.0, -4.0, 0.1, "CAM_BACK_LEFT"), (-10.0, 4.0, -0.1, "CAM_BACK_RIGHT"),
    # The rear camera begins at 82.5 degrees: x = 0.527 at y = 4.
    (0.53, 4.0, -0.1, "CAM_FRONT_RIGHT"), (0.52, 4.0, -0.1, "CAM_BACK_RIGHT"),
    (10.0, -4.0, math.pi / 2, "CAM_FRONT_LEFT"),
    (10.0, 0.0005, -0.1, "CAM_FRONT_LEFT")])
def test_a_converging_vehicle_is_looked_at_by_its_bearing(x, y, turned, name):
  assert meeting(x, y, turned) == [(name, 5, 6)]


@pytest.mark.parametrize("change", [
    {"turned": -0.1}, {"turned": 0.05}, {"turned": math.pi - 0.05},
    {"turned": math.pi + 0.1}, {"speed": 0.5}, {"speed": None},
    {"lane": drives.OWN}, {"y": -7.6}, {"x": 19.8}, {"y": 0.0}])
def test_one_that_keeps_away_stands_or_is_far_is_not(change):
  assert meeting(**{"x": 10.0, "y": -4.0, "turned": 0.1} | change) == []


@pytest.mark.parametrize("kind, looks", [
    ("HighwayCutIn", True), ("InterurbanAdvancedActorFlow", True),
    ("ParkingCutIn", False), ("StaticCutIn", False),
    ("EnterActorFlow", False), ("HardBreakRoute", False)])
def test_two_types_look_at_merging_vehicles(kind, looks):
  assert meeting(10.0, -4.0, 0.1, kind) == (
      [("CAM_FRONT_LEFT", 5, 6)] if looks else [])


def test_of_two_converging_vehicles_the_nearest_counts():
  right = drives.car(8.0, 4.0, id=50, turned=-0.1, speed=8.0)
  left = drives.car(9.0, -4.0, id=3, turned=0.1, speed=8.0)
  assert constant("HighwayCutIn", 7, boxes=[left, right]) == [
      ("CAM_FRONT_RIGHT", 5, 6)]
  twin = drives.car(8.0, -4.0, id=6, turned=0.1, speed=8.0)
  assert constant("HighwayCutIn", 7, boxes=[right, twin]) == [
      ("CAM_FRONT_LEFT", 5, 6)]


# C9.


def test_otherwise_no_view_is_needed():
  label = drives.label("HardBreakRoute", [drives.moment()] * 4)
  assert label.camera == ["NULL"] * 4
  assert label.camera_rule == ["C9"] * 4
