"""GPS, the ego frame and the route, against their inverses and their twins."""

import math

import numpy as np
import pytest

from data_pipeline import errors, navigation
from data_pipeline.miniworld import planner

MAPS = [(0.0, 0.0), (35.25, -101.87), (48.99, 8.0), (-33.9, 151.2)]
PLACES = [(0.0, 0.0), (312.5, -97.25), (-4800.0, 5200.0)]


@pytest.mark.parametrize("lat, lon", MAPS)
@pytest.mark.parametrize("place", PLACES)
def test_one_point_tells_the_map(lat, lon, place):
  true = navigation.Georeference(lat, lon)
  found = navigation.Georeference.solve(true.to_gps(*place), place)
  for x, y in PLACES:
    np.testing.assert_allclose(
        found.to_world(*true.to_gps(x, y)), (x, y), atol=1e-4)


def test_the_world_is_left_handed():
  world = navigation.Georeference(40.0, 5.0)
  east, north = world.to_world(40.0, 5.001), world.to_world(40.001, 5.0)
  assert east[0] > 0 and abs(east[1]) < 1e-6
  assert north[1] < 0 and abs(north[0]) < 1e-6
  # a thousandth of a degree of longitude at 40 degrees north
  assert east[0] == pytest.approx(111.319 * math.cos(math.radians(40)), 1e-4)


def test_without_a_world_point_distances_are_right():
  true = navigation.Georeference(49.0, 8.0)
  found = navigation.Georeference.solve(true.to_gps(100.0, 50.0))
  step = (found.to_world(*true.to_gps(130.0, 10.0))
          - found.to_world(*true.to_gps(100.0, 50.0)))
  np.testing.assert_allclose(step, (30.0, -40.0), atol=1e-2)


@pytest.mark.parametrize("gps, xy", [
    ((math.nan, 8.0), None), ((95.0, 8.0), None), ((49.0, 8.0), (0, math.inf)),
    ((49.0, 8.0), (0.0, 1e9))])
def test_a_place_on_no_map_is_refused(gps, xy):
  with pytest.raises(errors.DataError, match="global plan"):
    navigation.Georeference.solve(gps, xy)


def test_frames_of_a_moment_are_those_of_the_training_windows():
  rng = np.random.default_rng(0)
  angles = np.array([-9.0, -math.pi, 0.3, math.pi, 12.0])
  points, position = rng.normal(0, 30, (5, 7, 2)), rng.normal(0, 30, (5, 1, 2))
  turned = navigation.wrap(angles)
  frames = navigation.to_ego(points, position, angles[:, None])
  for i, angle in enumerate(angles.tolist()):  # the agent's way to ask
    assert navigation.wrap(angle) == turned[i]
    np.testing.assert_allclose(
        navigation.to_ego(points[i], position[i, 0], angle), frames[i],
        atol=1e-12)


@pytest.mark.parametrize("spacing", [1.0, 40.0])
def test_the_planner_walks_like_the_recorder_s(spacing):
  rng = np.random.default_rng(1)
  turn = np.cumsum(rng.normal(0, 0.05, 300))
  road = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], -1), 0)   # [300,2]
  nodes = road[::int(spacing)]
  ours = navigation.RoutePlanner(nodes)
  theirs = planner.Planner((nodes, np.full(len(nodes), 4)),
                           navigation.MIN_DISTANCE)
  for place in road:
    place = place + rng.normal(0, 0.6, 2)
    np.testing.assert_array_equal(ours.target(place), theirs.target(place)[:2])


def test_of_the_nodes_in_reach_the_farthest_is_reached():
  # 7, 7.3 and 2.8 m away: a bend that comes back does not count as passed
  route = navigation.RoutePlanner([(0, 0), (7, 0), (7, 2), (2, 2), (2, 30)])
  np.testing.assert_array_equal(route.target(np.zeros(2)), (2, 2))


def test_the_last_node_stays_the_target():
  route = navigation.RoutePlanner([(0, 0), (5, 0), (10, 0)])
  for x in (0, 4, 8, 12, 50):
    target = route.target(np.array([x, 0.0]))
  np.testing.assert_array_equal(target, (10, 0))


@pytest.mark.parametrize("nodes", [[], [(0, 0)], [(0, 0), (math.nan, 1)]])
def test_a_route_needs_two_places(nodes):
  with pytest.raises(errors.DataError, match="check the global plan"):
    navigation.RoutePlanner(nodes)
