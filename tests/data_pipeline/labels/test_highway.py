"""Where the camera looks on highways (C7) and at vehicles that merge or cut in
(C8), on drives made by hand.
"""

import math

import pytest

from tests.data_pipeline.labels import drives
from tests.data_pipeline.labels.drives import constant, spot

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
