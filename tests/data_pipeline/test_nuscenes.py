"""nuScenes as a source: axes, times, images, broken tables."""

import math
import pickle

import numpy as np
import pytest

from data_pipeline import (
    errors,
    images,
    navigation,
    nuscenes,
    nuscenes_tables,
    records,
    windows,
)
from tests.data_pipeline import fixtures, nuscenes_tree

NAME = "nuScenes_boston-seaport_Route0061_Weather0"


def source(tmp_path, version="v1.0-test", keyframes_only=False, **options):
  root = nuscenes_tree.write(tmp_path / "nuscenes", **options)
  return nuscenes.index(root, version, str(tmp_path / "index"),
                        keyframes_only=keyframes_only)


def test_scenes_of_other_tables_do_not_stay(tmp_path):
  source(tmp_path / "a", scenes=("scene-0061", "scene-0103"))
  root = nuscenes_tree.write(tmp_path / "b", scenes=("scene-0061",))
  scenes = nuscenes.index(root, "v1.0-test", str(tmp_path / "a" / "index"))
  assert scenes.names() == [NAME]


def left_circle(seconds, speed=5.0, radius=20.0):
  """Counter-clockwise on a circle around the origin, from (radius, 0)."""
  angle = speed * seconds / radius
  return (radius * math.cos(angle), radius * math.sin(angle),
          angle + math.pi / 2)


def test_a_scene_becomes_frames_at_ten_hertz(tmp_path):
  scenes = source(tmp_path, scenes=("scene-0061", "scene-0103"))
  assert scenes.names() == [NAME, NAME.replace("0061", "0103")]
  # From the last camera's first picture (0.025 s) to the front camera's last
  # one (36 / 12 = 3.0 s).
  assert scenes.length(NAME) == len(scenes.read(NAME)) == 30
  route = scenes.read(NAME)
  assert route.camera is None and route.skill is None
  np.testing.assert_allclose(
      route.position[:, 0], 100 + 10 * (0.025 + 0.1 * np.arange(30)))
  np.testing.assert_allclose(route.position[:, 1], -50)  # y is to the right
  np.testing.assert_allclose(route.speed, 10)
  np.testing.assert_allclose(route.acceleration, [[0, 0, 9.81]] * 30,
                             atol=1e-4)
  again = pickle.loads(pickle.dumps(scenes))  # as a worker gets it
  assert again.version(NAME) == scenes.version(NAME)


@pytest.mark.parametrize("keyframes_only", [False, True])
def test_a_left_turn_has_the_signs_of_carla(tmp_path, keyframes_only):
  scenes = source(tmp_path, drive=left_circle,
                  keyframes_only=keyframes_only)
  route = scenes.read(NAME)
  inner = slice(2, -2)  # one-sided differences at the ends
  # The path comes from all poses in the tables, the images do not.
  np.testing.assert_allclose(np.hypot(*route.position.T), 20, atol=2e-3)
  np.testing.assert_allclose(route.speed[inner], 5, rtol=2e-3)
  np.testing.assert_allclose(route.angular_velocity[inner, 2], -0.25,
                             rtol=2e-3)
  # Centripetal 25 / 20 m/s^2, to the left.
  np.testing.assert_allclose(route.acceleration[inner, 1], -1.25, rtol=5e-3)
  got = windows.make_windows(route, horizon=10)
  assert (got.action[:, 2:, 1] < 0).all() and (got.action[:, 1:, 0] > 0).all()
  assert (got.future_heading[:, 1:] < 0).all()


def test_interpolation_is_exact_for_even_acceleration():
  # Keyframes half a second apart; x = 3 t + t^2, so acceleration is 2.
  clock = np.arange(0, 5, 0.5)
  at = np.arange(0, 4.5, 0.1)
  path = lambda t: np.stack([3 * t + t**2, -t], -1)
  np.testing.assert_allclose(
      nuscenes.interpolate(at, clock, path(clock)), path(at), atol=1e-12)
  # Two poses make a line.
  np.testing.assert_allclose(nuscenes.interpolate(
      np.array([0.25]), np.array([0.0, 1.0]), np.array([[0.0], [4.0]])), 1.0)


def test_crossing_minus_pi_makes_no_jump(tmp_path):
  # nuScenes' yaw leaves at 179 degrees and comes back at -179.
  def drive(t):
    yaw = math.pi - 0.05 + 0.1 * t
    return -5 * t, 0.0, (yaw + math.pi) % math.tau - math.pi
  route = source(tmp_path, drive=drive).read(NAME)
  np.testing.assert_allclose(route.angular_velocity[:, 2], -0.1, atol=1e-6)
  step = navigation.wrap(np.diff(route.heading))
  np.testing.assert_allclose(step, -0.01, atol=1e-6)
  assert (route.heading >= -math.pi / 2).all()
  assert (route.heading < 1.5 * math.pi).all()


def test_route_points_lie_ahead_on_the_path(tmp_path):
  route = source(tmp_path, pictures=151).read(NAME)  # 12 s, 120 m
  ego = navigation.to_ego(route.far_node, route.position, route.heading)
  np.testing.assert_allclose(ego[:, 1], 0, atol=1e-9)
  assert ego[:, 0].min() > 7.4 and ego[:, 0].max() < 57.6
  # They stand still in the world until they are near.
  nodes = np.unique(route.far_node[:, 0].round(6))
  np.testing.assert_allclose(np.diff(nodes), 50, atol=1e-6)
  # The end of the recording shows nowhere: the last point is beyond it.
  assert nodes[-1] > route.position[-1, 0]


def test_a_standing_car_has_a_route_point_ahead(tmp_path):
  route = source(tmp_path, drive=lambda t: (0.0, 0.0, 0.3)).read(NAME)
  ego = navigation.to_ego(route.far_node, route.position, route.heading)
  np.testing.assert_allclose(ego, [[50, 0]] * len(route), atol=1e-6)


def test_an_image_is_the_last_one_taken(tmp_path):
  scenes = source(tmp_path)
  start = nuscenes_tree.moment(0, 5)
  for camera, frame in (("rgb_front", 0), ("rgb_back_right", 0),
                        ("rgb_back", 17), ("rgb_front", 29)):
    index = list(nuscenes_tables.FOLDER_OF_CHANNEL.values()).index(camera)
    taken = [nuscenes_tree.moment(n, index) for n in range(37)]
    n = max(i for i in range(37) if taken[i] <= start + frame * 100_000)
    want = images.decode(fixtures.jpeg(index, n, salt="scene-0061"), 8)
    got = scenes.pixels(NAME, camera, frame, 8)
    np.testing.assert_array_equal(got, want)


def test_keyframes_alone_show_no_future(tmp_path):
  scenes = source(tmp_path, keyframes_only=True)
  for folder in (tmp_path / "nuscenes" / "sweeps").iterdir():
    for path in folder.iterdir():
      path.unlink()  # none is opened
  shown = [scenes.pixels(NAME, "rgb_front", t, 8) for t in range(11)]
  # Keyframes are at 0.0, 0.5 and 1.0 s; frames start at 0.025 s.
  key = lambda n: images.decode(fixtures.jpeg(0, n, salt="scene-0061"), 8)
  for t, image in enumerate(shown):
    np.testing.assert_array_equal(image, key(0 if t < 5 else 6 if t < 10
                                             else 12))


def test_a_frame_of_every_field_fits_the_record(tmp_path):
  scenes = source(tmp_path)
  route = scenes.read(NAME)
  data = records.encode(records.of_route(route, 3, {
      camera: records.encode_image(scenes.pixels(NAME, camera, 3, 8), "png")
      for camera in records.IMAGES}))
  record = records.decode(data)
  for key in records.NUMBERS:
    np.testing.assert_array_equal(
        records.number(record, key), getattr(route, key)[3])
  assert records.number(record, "skill") == records.UNLABELLED


def test_tables_larger_than_a_read_are_read(tmp_path, monkeypatch):
  want = source(tmp_path / "a").read(NAME)
  for chunk in (1, 7, 1000):
    monkeypatch.setattr(nuscenes_tables, "CHUNK", chunk)
    got = nuscenes.index(str(tmp_path / "a" / "nuscenes"), "v1.0-test",
                         str(tmp_path / f"index{chunk}")).read(NAME)
    np.testing.assert_array_equal(got.position, want.position)


def test_broken_tables_are_named(tmp_path):
  source(tmp_path)
  root = tmp_path / "nuscenes"
  again = lambda: nuscenes.index(str(root), "v1.0-test",
                                 str(tmp_path / "index"))
  path = root / "v1.0-test" / "ego_pose.json"
  whole = path.read_text()
  for broken in (whole[:-1], whole[:len(whole) // 2], "", "[{]"):
    path.write_text(broken)
    with pytest.raises(errors.DataError, match="ego_pose.json is no whole"):
      again()
  path.write_text(whole)
  sample = root / "v1.0-test" / "sample.json"
  sample.write_text("[]\n")
  with pytest.raises(errors.DataError, match="do not fit.*scene-0061-36"):
    again()
  sample.unlink()
  with pytest.raises(errors.DataError, match="sample.json cannot be read"):
    again()


def test_a_copy_without_sweeps_is_told_what_to_do(tmp_path):
  root = nuscenes_tree.write(tmp_path)
  (tmp_path / "sweeps" / "CAM_FRONT").rename(tmp_path / "elsewhere")
  with pytest.raises(errors.DataError, match="ask for --keyframes-only"):
    nuscenes.index(root, "v1.0-test", str(tmp_path / "index"))


def test_a_gap_in_a_camera_is_refused(tmp_path):
  scenes = source(tmp_path, keyframes_only=True, pictures=37)
  path = tmp_path / "index" / f"{NAME}.json"
  text = path.read_text()
  # The back camera's keyframe at 1.0 s is gone.
  time = nuscenes_tree.moment(12, list(
      nuscenes_tables.FOLDER_OF_CHANNEL).index("CAM_BACK"))
  entry = f'[{time}, "samples/CAM_BACK/scene-0061__0012.jpg"], '
  assert entry in text
  path.write_text(text.replace(entry, ""))
  scenes.pixels(NAME, "rgb_back", 10, 8)
  with pytest.raises(errors.DataError, match="rgb_back by frame 12 is 0.7 s"):
    scenes.pixels(NAME, "rgb_back", 12, 8)
