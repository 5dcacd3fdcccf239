"""Where the camera looks during a bypass (rule C4), on drives made by hand."""

import math

import pytest

from data_pipeline.labels import bypass as bypasses
from data_pipeline.labels import constants as consts
from tests.data_pipeline.labels import drives
from tests.data_pipeline.labels.drives import (
    DOOR,
    POLICE,
    WARNING,
    bypass,
    constant,
)

C = consts.DEFAULTS


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
