"""The camera rules of turns, emergencies, slots, cones and commands, on drives
made by hand. Bypasses and highways have files of their own.
"""

import pytest

from tests.data_pipeline.labels import drives
from tests.data_pipeline.labels.drives import CONE, POLICE, constant, spot

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


# C9.


def test_otherwise_no_view_is_needed():
  label = drives.label("HardBreakRoute", [drives.moment()] * 4)
  assert label.camera == ["NULL"] * 4
  assert label.camera_rule == ["C9"] * 4
