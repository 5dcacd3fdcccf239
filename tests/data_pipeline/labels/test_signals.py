"""What the rules read off a drive, worked out by hand."""

import dataclasses
import math

import pytest

from data_pipeline.labels import constants as consts
from tests.data_pipeline.labels import drives

C = consts.DEFAULTS
ENTRY, CROSSING, OTHER_CROSSING, EXIT = (
    (1, 0, -1), (11, 0, -1), (12, 0, -1), (2, 0, -1))


def through_a_junction(lanes, near, step=1.0):
  """A metre a frame, so that 8 m of reach are 8 frames."""
  return [drives.moment(step * t, lane=lane, near=command)
          for t, (lane, command) in enumerate(zip(lanes, near, strict=True))]


def inside(moments, c=C):
  flags = drives.read("TJunction", moments, c=c).junction
  return [t for t, flag in enumerate(flags) if flag]


def test_the_road_id_moves_a_commanded_junction_to_where_the_car_is_in_it():
  # The command is that of a node 4 m ahead: 4 frames early at both ends.
  lanes = [ENTRY] * 9 + [CROSSING] * 12 + [EXIT] * 5
  near = [4] * 5 + [1] * 12 + [4] * 9
  moments = through_a_junction(lanes, near)
  assert inside(moments) == list(range(9, 21))
  plain = dataclasses.replace(C, junction_reach=0.0)
  assert inside(moments, plain) == list(range(5, 17))


def test_overlapping_crossings_do_not_break_a_junction_up():
  lanes = ([ENTRY] * 9 + [CROSSING, OTHER_CROSSING] * 6 + [EXIT] * 5)
  near = [4] * 5 + [2] * 12 + [4] * 9
  assert inside(through_a_junction(lanes, near)) == list(range(9, 21))


def test_a_road_id_that_changes_too_late_leaves_the_command():
  lanes = [ENTRY] * 16 + [CROSSING] * 8 + [EXIT] * 4
  near = [4] * 5 + [3] * 10 + [4] * 13  # 5..14; the road changes 11 m on
  assert inside(through_a_junction(lanes, near)) == list(range(5, 15))


def test_a_junction_may_hold_the_first_and_the_last_frame():
  assert inside(through_a_junction([CROSSING] * 6, [1] * 6)) == list(range(6))


def test_a_drive_that_begins_in_a_junction_comes_out_by_the_road_id():
  lanes = [CROSSING] * 5 + [EXIT] * 5
  assert inside(through_a_junction(lanes, [1] * 2 + [4] * 8)) == list(range(5))


def test_a_crossing_keeps_its_command_to_its_end():
  lanes = [ENTRY] * 9 + [CROSSING] * 12 + [EXIT] * 5
  near = [4] * 5 + [1] * 12 + [4] * 9
  turn = drives.read("TJunction", through_a_junction(lanes, near)).turn
  assert turn == [None] * 9 + [1] * 12 + [None] * 5


def test_a_map_decides_instead_of_the_command():
  class Spot:
    def __init__(self, junction):
      self.junction = junction
  near = [4] * 2 + [2] * 4 + [4] * 4
  moments = through_a_junction([ENTRY] * 10, near)
  road_map = drives.Map(map(Spot, [False] * 4 + [True] * 4 + [False] * 2))
  signals = drives.read("TJunction", moments, road_map)
  assert signals.source == "map"
  assert signals.turn == [None] * 4 + [2] * 4 + [None] * 2
  assert drives.read("TJunction", moments).source == "command"


def test_a_lane_change_must_hold_three_frames_on_one_road():
  def changes(*lane_ids, road=lambda t: 1):
    moments = [drives.moment(lane=(road(t), 0, lane))
               for t, lane in enumerate(lane_ids)]
    return [(change.frame, change.side)
            for change in drives.read("LaneChange", moments).changes]
  assert changes(-2, -2, -1, -1, -1) == [(2, "LEFT")]
  assert changes(-2, -2, -1, -1) == []
  assert changes(-2, -1, -2, -1, -1, -1) == [(3, "LEFT")]
  assert changes(-2, -2, -1, -1, -1, road=lambda t: 1 + (t > 1)) == []


@pytest.mark.parametrize("old, new, side", [
    (-1, -2, "RIGHT"), (-2, -1, "LEFT"), (-1, 1, "LEFT"),
    (1, 2, "RIGHT"), (2, 1, "LEFT"), (1, -1, "LEFT")])
def test_lane_ids_tell_the_side_as_the_driver_sees_it(old, new, side):
  moments = [drives.moment(lane=(1, 0, lane))
             for lane in [old] * 3 + [new] * 3 + [old] * 3]
  out, back = drives.read("LaneChange", moments).changes
  assert (out.side, out.opposing) == (side, old * new < 0)
  assert {out.side, back.side} == {"LEFT", "RIGHT"}


def test_each_road_is_counted_from_the_lane_on_which_the_car_came():
  lanes = [(1, 0, -1)] * 3 + [(2, 0, 1)] * 3 + [(2, 0, 2)] * 3
  change, = drives.read(
      "LaneChange", [drives.moment(lane=lane) for lane in lanes]).changes
  assert (change.frame, change.side) == (6, "RIGHT")


def test_a_far_lane_change_counts_only_when_it_is_near():
  command = lambda **far: drives.read(
      "LaneChange", [drives.moment(**far)]).command[0]
  assert command(far=5, far_at=14.9) == 5
  assert command(far=5, far_at=15.1) == 4
  assert command(near=6, far=5, far_at=5.0) == 6
  assert command(far=1, far_at=5.0) == 4


def test_a_silent_speedometer_is_replaced_by_the_box():
  moment = drives.moment(speed=9.0)
  for silent in (None, math.nan):
    moment["speed"] = silent
    assert drives.read("TJunction", [moment]).speed == [9.0]
  moment["bounding_boxes"][0]["speed"] = None
  signals = drives.read("TJunction", [moment])
  assert signals.horizon(0, C) == 20.0


def test_the_horizon_is_20_m_and_more_above_8_m_s():
  signals = drives.read("TJunction", [
      drives.moment(speed=8.0), drives.moment(speed=12.0)])
  assert [signals.horizon(t, C) for t in (0, 1)] == [20.0, 30.0]


def test_actors_come_nearest_first_then_by_number_and_not_at_the_spawn():
  boxes = [drives.car(9.0, id=4), drives.car(5.0, id=30),
           drives.car(5.0, id=100), drives.car(5.0, id=9)]
  signals = drives.read("TJunction", [drives.moment(boxes=boxes)] * 6)
  assert [box.id for box in signals.actors(5, C, "vehicle")] == [9, 30, 100, 4]
  assert signals.actors(4, C, "vehicle") == []


def test_home_is_the_usual_lane_of_the_road_in_the_last_3_seconds():
  lanes = [(1, 0, -3)] * 40 + [(1, 0, -2)] * 25 + [(1, 0, -1)] * 6
  signals = drives.read("LaneChange", [drives.moment(lane=x) for x in lanes])
  assert signals.home(70, C) == (1, 0, -2)
  assert signals.home(41, C) == (1, 0, -3)
