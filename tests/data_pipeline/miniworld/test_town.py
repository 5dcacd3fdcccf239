"""Lanes, junction geometry, routes and their navigation nodes."""

import numpy as np
import pytest

from data_pipeline.miniworld import junction, paths, planner
from data_pipeline.miniworld import town as towns


def crossing(arms="WENS", box=(11.0, 13.0), radius=7.5):
  corners = dict.fromkeys(junction.CORNERS, 4.0)
  spec = junction.Junction(
      {arm: [(20.0, 0.0), (20.0, 0.05), (10.0, 0.0)] for arm in arms}, box,
      corners, True, True)
  return junction.build(spec, {("W", "S"): radius, ("W", "N"): radius + 3,
                               ("W", "E"): None})


def drive(move, start=33.0):
  """From the straight part of the west arm to that of another arm."""
  town, lanes = crossing()
  return town, towns.route(town, lanes[move], start, 18.0)


def test_the_lane_at_a_point_is_the_nearest_of_all():
  town, _ = crossing()
  rng = np.random.default_rng(0)
  low, high = np.array(town.bounds).reshape(2, 2)
  for _ in range(200):
    point, heading = rng.uniform(low, high), rng.uniform(-np.pi, np.pi)
    cost = {index: town.network.get_lane(index).distance_with_heading(
        point, heading, 2.0 if name.is_junction else 0.0)
            for index, name in town.names.items()}
    nearest = min(cost, key=cost.__getitem__)
    assert town.lane_at(point, heading) == (nearest, town.names[nearest])


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
  arc = np.flatnonzero(abs(route.curvature) > 1e-6)
  assert len(arc) * paths.STEP == pytest.approx(radius * np.pi / 2, abs=1.0)
  np.testing.assert_allclose(abs(route.curvature[arc[4:-4]]), 1 / radius,
                             rtol=1e-3)
  assert np.sign(route.curvature[arc[5]]) == (1 if end == "S" else -1)


def test_a_winding_road_keeps_its_length_and_general_direction():
  rng = np.random.default_rng(0)
  for _ in range(20):
    pieces = paths.winding(rng, 60.0, swing=0.7)
    assert sum(length for length, _ in pieces) == pytest.approx(60.0)
    path = paths.trace((0.0, 0.0), 0.3, pieces)
    assert path.length == pytest.approx(60.0, abs=0.01)
    assert abs(path.heading - 0.3).max() < 0.7 + 0.2
    assert {np.sign(bend) for _, bend in pieces} == {-1.0, 1.0}


def test_a_traced_arc_is_a_circle():
  # A quarter to the right on radius 8 from the origin, heading +x.
  path = paths.trace((0.0, 0.0), 0.0, [(4 * np.pi, 1 / 8)])
  np.testing.assert_allclose(path.xy[-1], (8.0, 8.0), atol=1e-3)
  np.testing.assert_allclose(np.hypot(path.xy[:, 0], path.xy[:, 1] - 8.0), 8.0,
                             atol=2e-3)
  inner = path.shifted(2.0)
  np.testing.assert_allclose(inner.xy[-1], (6.0, 8.0), atol=1e-3)
  assert inner.length == pytest.approx(3 * np.pi, abs=0.01)
  back = path.reversed()
  np.testing.assert_allclose(back.point(0.0), path.point(path.length))
  np.testing.assert_allclose(back.point(3.0, 1.0),
                             path.point(path.length - 3.0, -1.0), atol=1e-9)


def test_lanes_measure_along_and_to_the_right():
  lane = paths.PathLane(paths.trace((0.0, 0.0), 0.0, [(40.0, 0.02)]), 3.5, 14)
  for s, lateral in ((3.0, 1.0), (20.1, -0.7), (39.0, 0.0)):
    np.testing.assert_allclose(
        lane.local_coordinates(lane.position(s, lateral)), (s, lateral),
        atol=0.02)
  past, _ = lane.local_coordinates(lane.position(46.0, 0.0))
  assert past == pytest.approx(46.0) and lane.after_end(lane.position(46, 0))


def test_routes_have_no_gaps_and_keep_to_the_right():
  for end in "NSE":
    town, route = drive(("W", end))
    steps = np.linalg.norm(np.diff(route.xy, axis=0), axis=1)
    np.testing.assert_allclose(steps[:-1], paths.STEP, atol=2e-3)
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
  _, route = drive(("W", "S"), start=10.0)
  xy, command = planner.sparse(route)
  assert list(command) == [4, 2, 4, 4]
  inside = route.xy[route.junction]
  assert np.linalg.norm(xy[1] - inside[0]) < 1.0
  assert np.linalg.norm(xy[2] - inside[-1]) < 1.5


def test_sparse_nodes_are_fifty_metres_apart():
  town = towns.street(150.0)
  xy, _ = planner.sparse(towns.route(town, [("a", "b", 0)]))
  np.testing.assert_allclose(xy[:, 0], [0, 50, 100, 150], atol=1.0)


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
