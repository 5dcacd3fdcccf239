"""Lanes, junction geometry, routes and their navigation nodes."""

import numpy as np
import pytest

from data_pipeline.miniworld import junction, planner
from data_pipeline.miniworld import town as towns


def crossing(arms=("W", "E", "N", "S"), box=(11.0, 13.0), radius=7.5):
  corners = dict.fromkeys(junction.CORNERS, 4.0)
  spec = junction.Junction(arms, box, (50.0, 40.0), corners, True, True)
  return junction.build(spec, {("W", "S"): radius, ("W", "N"): radius + 3,
                               ("W", "E"): None})


def drive(move, start=20.0):
  town, paths = crossing()
  return town, towns.route(town, paths[move], start, 30.0)


def test_own_and_opposing_lanes_have_opposite_signs():
  town = towns.street(100.0, own=2, opposing=1)
  ids = [town.lane_at(np.array([50.0, y]), 0.0)[1].lane_id
         for y in (1.75, 5.25, -1.75)]
  assert ids == [-1, -2, 1]  # even when driven against its sense


@pytest.mark.parametrize("end, turn, command", [
    ("S", 90, towns.RIGHT), ("N", -90, towns.LEFT), ("E", 0, towns.STRAIGHT)])
def test_turns_go_where_they_say(end, turn, command):
  _, route = drive(("W", end))
  assert np.degrees(route.heading[-1]) == pytest.approx(turn, abs=1e-6)
  assert junction.turn_of("W", end) == command
  assert set(route.command[route.junction]) == {command}
  assert set(route.command[~route.junction]) == {towns.FOLLOW}


@pytest.mark.parametrize("end, radius", [("S", 7.5), ("N", 10.5)])
def test_a_turn_is_one_arc_of_its_radius(end, radius):
  _, route = drive(("W", end))
  arc = route.curvature != 0
  assert arc.sum() * towns.ROUTE_STEP == pytest.approx(
      radius * np.pi / 2, abs=2 * towns.ROUTE_STEP)
  turned = np.diff(route.heading[arc]) / towns.ROUTE_STEP
  np.testing.assert_allclose(turned, route.curvature[arc][1:], rtol=1e-6)
  assert abs(route.curvature).max() == pytest.approx(1 / radius)


def test_routes_have_no_gaps_and_keep_to_the_right():
  for end in "NSE":
    town, route = drive(("W", end))
    steps = np.linalg.norm(np.diff(route.xy, axis=0), axis=1)
    np.testing.assert_allclose(steps, towns.ROUTE_STEP, atol=2e-3)
    assert route.xy[0, 1] == pytest.approx(towns.LANE / 2)
    name = town.lane_at(route.xy[0], route.heading[0])[1]
    assert not name.is_junction and name.lane_id == -1
    middle = len(route.xy) // 2
    assert town.lane_at(route.xy[middle], route.heading[middle])[1].is_junction


def test_projection_undoes_point():
  _, route = drive(("W", "S"))
  for s, offset in ((3.0, 1.0), (30.2, -1.5), (42.0, 0.5)):
    got = route.project(route.point(s, offset))
    np.testing.assert_allclose(got, (s, offset), atol=0.13)


def test_sparse_nodes_keep_the_junctions_entry_and_exit():
  _, route = drive(("W", "S"), start=0.0)
  xy, command = planner.sparse(route)
  assert list(command) == [4, 2, 4, 4]
  inside = route.xy[route.junction]
  assert np.linalg.norm(xy[1] - inside[0]) < 1.0
  assert np.linalg.norm(xy[2] - inside[-1]) < 1.5


def test_sparse_nodes_are_fifty_metres_apart():
  town = towns.street(150.0)
  xy, _ = planner.sparse(towns.route(town, [("a", "b", 0)]))
  np.testing.assert_allclose(xy[:, 0], [0, 50, 100, 149], atol=1.0)


def test_the_near_target_stays_four_to_five_metres_ahead():
  town = towns.street(60.0)
  plan = planner.Planner(planner.dense(towns.route(town, [("a", "b", 0)])),
                         planner.NEAR_DISTANCE)
  for x in np.arange(0.3, 40.0, 0.4):
    ahead = plan.target(np.array([x, 1.75]))[0] - x
    assert 4.0 < ahead <= 5.0


def test_the_far_target_changes_within_its_distance():
  nodes = np.array([[0, 0], [50, 0], [60, 0], [110, 0]], float)
  plan = planner.Planner((nodes, np.array([4, 2, 4, 4])),
                         planner.FAR_DISTANCE)
  assert plan.target(np.array([40.0, 0.0])) == (50.0, 0.0, 2)
  assert plan.target(np.array([43.0, 0.0])) == (60.0, 0.0, 4)
  assert plan.target(np.array([55.0, 0.0])) == (110.0, 0.0, 4)
  assert plan.target(np.array([109.0, 0.0])) == (110.0, 0.0, 4)  # the last one
