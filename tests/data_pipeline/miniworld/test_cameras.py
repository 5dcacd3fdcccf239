"""The rig's pinholes: Bench2Drive's intrinsics, sides and handedness."""

import numpy as np
import pytest

from data_pipeline.miniworld import cameras, render

AT = np.array([12.0, -7.0])


def seen_by(point, heading=0.3):
  """Names of the cameras in whose picture a world point [3] lies."""
  names = []
  for name, camera in cameras.rig((320, 180)).items():
    frame = cameras.world_to_camera(np.asarray(point, float),
                                    *camera.pose(AT, heading))
    if frame[0] > 0:
      u, v = camera.project(frame[None])[0]
      if 0 <= u < 320 and 0 <= v < 180:
        names.append(name)
  return names


def around(bearing, distance=15.0, heading=0.3):
  """A point at eye height, `bearing` degrees to the right of the nose."""
  angle = heading + np.radians(bearing)
  return [*(AT + distance * np.array([np.cos(angle), np.sin(angle)])), 1.6]


def test_intrinsics_are_those_of_the_dataset():
  rig = cameras.rig((1600, 900))
  assert rig["rgb_front"].focal == pytest.approx(1142.518, abs=1e-3)
  assert rig["rgb_back"].focal == pytest.approx(560.166, abs=1e-3)
  assert rig["rgb_front"].centre == (800, 450)


@pytest.mark.parametrize("bearing, name", [
    (0, "rgb_front"), (-55, "rgb_front_left"), (55, "rgb_front_right"),
    (-110, "rgb_back_left"), (110, "rgb_back_right"), (180, "rgb_back")])
def test_each_camera_sees_its_own_side(bearing, name):
  assert name in seen_by(around(bearing))
  opposite = {"left": "right", "right": "left"}.get(name.split("_")[-1])
  if opposite:
    assert not any(opposite in other for other in seen_by(around(bearing)))


def test_together_they_see_all_around():
  assert all(seen_by(around(bearing)) for bearing in range(-180, 180, 5))


def test_right_is_right_and_up_is_up():
  camera = cameras.rig((320, 180))["rgb_front"]
  eye, yaw = camera.pose(AT, 0.3)
  u, v = camera.project(cameras.world_to_camera(
      np.array([around(10), around(-10)]), eye, yaw)).T
  assert u[0] > 160 > u[1]
  np.testing.assert_allclose(v, 90.0, atol=1e-9)  # eye height: the horizon
  high = np.array(around(0)) + [0, 0, 1]
  above = camera.project(cameras.world_to_camera(high, eye, yaw)[None])[0]
  assert above[1] < 90


def test_pictures_do_not_depend_on_where_the_world_is_or_points():
  point, shift, turn = np.array([20.0, 3.0, 1.0]), np.array([5.0, -8.0]), 0.7
  rotate = np.array([[np.cos(turn), -np.sin(turn)],
                     [np.sin(turn), np.cos(turn)]])
  moved = np.array([*(rotate @ point[:2] + shift), point[2]])
  for camera in cameras.rig((320, 180)).values():
    here = cameras.world_to_camera(point, *camera.pose(AT, 0.3))
    there = cameras.world_to_camera(
        moved, *camera.pose(rotate @ AT + shift, 0.3 + turn))
    np.testing.assert_allclose(here, there, atol=1e-12)


def test_the_near_plane_cuts_only_what_is_too_near():
  whole = np.array([[1, 0, 0], [2, 1, 0], [2, 1, 1], [1, 0, 1]], float)
  np.testing.assert_array_equal(render.clip_near(whole), whole)
  cut = render.clip_near(whole - [1.5, 0, 0])
  assert cut[:, 0].min() == pytest.approx(render.NEAR)
  assert len(cut) == 4
  assert len(render.clip_near(whole - [5, 0, 0])) == 0
