"""Windows: counts, the ego frame, and what happens to bad routes."""

import math

import numpy as np
import pytest

from data_pipeline import bench2drive, errors, navigation, windows
from tests.data_pipeline import fixtures

LEFT = -math.pi / 2  # of a heading along +x, in a frame with y to the right


def make_route(frames, *, heading=None, position=None, **changes):
  t = np.arange(frames, dtype=np.float64)
  values = dict(
      name="A_Town01_Route0_Weather0",
      position=np.stack([t, 0 * t], -1) if position is None else position,
      heading=0 * t if heading is None else heading,
      speed=t, acceleration=np.stack([t, -t, 9.8 + 0 * t], -1),
      angular_velocity=np.stack([0 * t, t / 10, t / 100], -1),
      far_node=np.stack([50 + t, 7 + 0 * t], -1),
      camera=np.arange(frames, dtype=np.int32) % 5,
      skill=np.arange(frames, dtype=np.int32) % 7)
  return bench2drive.Route(**values | changes)


def test_routes_have_labels_all_or_none():
  make = lambda i, **kw: windows.make_windows(
      make_route(20, name=f"A_Town01_Route{i}_Weather0", **kw), root="R",
      history=3, horizon=4)
  joined = windows.join([make(0, skill=None), make(1, skill=None)])
  assert joined.skill is None and len(joined.camera) == len(joined)
  for parts in ([make(0), make(1, skill=None)], [make(1, skill=None), make(0)]):
    with pytest.raises(errors.DataError, match="no skill, such as A_Town01_Ro"
                       "ute1"):
      windows.join(parts)


def to_world(points, position, heading):
  """Ego points -> world: the inverse of navigation.to_ego."""
  cos, sin = np.cos(heading), np.sin(heading)
  x, y = np.moveaxis(points, -1, 0)
  return np.stack([cos * x - sin * y, sin * x + cos * y], -1) + position


def test_to_ego_by_hand():
  # The car stands at (2, 3) and looks along +y (yaw 90 degrees). A point 4 m
  # ahead is (2, 7); one 1 m to its right is (1, 3), for x is to its left.
  points = np.array([[2.0, 7.0], [1.0, 3.0]])
  got = navigation.to_ego(points, np.array([2.0, 3.0]), math.pi / 2)
  np.testing.assert_allclose(got, [[4, 0], [0, 1]], atol=1e-12)
  back = to_world(got, np.array([2.0, 3.0]), math.pi / 2)
  np.testing.assert_allclose(back, points, atol=1e-12)


def test_to_world_inverts_to_ego():
  rng = np.random.default_rng(0)
  points, position = rng.normal(size=(2, 6, 4, 2))
  heading = rng.uniform(-7, 7, (6, 4))
  np.testing.assert_allclose(
      to_world(navigation.to_ego(points, position, heading), position,
               heading), points, atol=1e-12)


def test_a_left_turn_goes_to_negative_y_and_negative_heading():
  turn = np.linspace(0, LEFT, 30)
  position = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], -1), 0)
  got = windows.make_windows(make_route(30, heading=turn, position=position))
  assert (got.action[:, 2:, 1] < 0).all()
  assert (got.action[:, 1:, 0] > 0).all()
  assert (got.future_heading[:, 1:] < 0).all()
  assert (got.proprio[5:, :-1, 7] > 0).all()  # it was further right before


def test_counts_of_the_published_example():
  counts = [len(windows.make_windows(make_route(n))) for n in (133, 201, 187)]
  assert counts == [123, 191, 177] and sum(counts) == 491


@pytest.mark.parametrize("horizon,history", [(1, 1), (10, 5), (21, 3)])
def test_sizes_follow_the_arguments(horizon, history):
  got = windows.make_windows(make_route(25), history=history, horizon=horizon)
  assert len(got) == 25 - horizon
  assert got.proprio.shape == (len(got), history, 10)
  assert got.action.shape == (len(got), horizon, 2)
  assert got.future_heading.shape == got.future_speed.shape == (
      len(got), horizon)
  assert (got.history, got.horizon) == (history, horizon)


@pytest.mark.parametrize("horizon", [10, 20, 21])
def test_plans_without_the_present_reach_one_step_further(horizon):
  with_now = windows.make_windows(make_route(40), horizon=horizon + 1)
  got = windows.make_windows(make_route(40), horizon=horizon,
                             drop_current_point=True)
  assert got.horizon == horizon and with_now.horizon == horizon + 1
  assert len(got) == 40 - horizon - 1
  # The same rows are kept, now among them, for those who measure.
  for key in windows.SAMPLE_ARRAYS:
    np.testing.assert_array_equal(getattr(got, key), getattr(with_now, key))
  with pytest.raises(errors.DataError, match=f"at least {horizon + 2}"):
    windows.make_windows(make_route(horizon + 1), horizon=horizon,
                         drop_current_point=True)


def test_contents_by_hand():
  got = windows.make_windows(make_route(20), horizon=10)
  # Present frame 2, straight ahead at 1 m a frame: the past is padded with
  # frame 0, the future starts now.
  np.testing.assert_allclose(got.proprio[2, :, 0], [0, 0, 0, 1, 2])
  np.testing.assert_allclose(got.proprio[2, :, 1], [0, 0, 0, 1, 2])
  np.testing.assert_allclose(got.proprio[2, :, 2], [0, 0, 0, -1, -2])
  np.testing.assert_allclose(got.proprio[2, :, 3], 9.8)
  np.testing.assert_allclose(got.proprio[2, :, 5], [0, 0, 0, .1, .2])
  np.testing.assert_allclose(got.proprio[2, :, 6], [0, 0, 0, .01, .02])
  # Each past far node is seen from the present position.
  np.testing.assert_allclose(got.proprio[2, :, 8], [48, 48, 48, 49, 50])
  np.testing.assert_allclose(got.proprio[2, :, 9], 7)
  np.testing.assert_allclose(got.goal[2], [50, 7])
  np.testing.assert_allclose(got.action[2, :, 0], np.arange(10))
  np.testing.assert_allclose(got.action[2, :, 1], 0)
  np.testing.assert_allclose(got.future_speed[2], 2 + np.arange(10))
  assert got.camera[4] == 4 and got.skill[8] == 1 and got.frame[9] == 9
  # The dropped last frame (19) is in no future.
  assert got.future_speed.max() == 18


def test_moving_and_turning_the_world_changes_nothing():
  route = make_route(30, heading=np.linspace(0, 1, 30))
  spin, shift = 2.5, np.array([300.0, -40.0])
  moved = make_route(
      30, heading=route.heading + spin,
      position=to_world(route.position, shift, spin),
      far_node=to_world(route.far_node, shift, spin))
  a, b = windows.make_windows(route), windows.make_windows(moved)
  for key in ("proprio", "goal", "action", "future_heading"):
    np.testing.assert_allclose(getattr(a, key), getattr(b, key), atol=2e-4)


def test_crossing_north_is_wrapped_unless_parity_is_asked_for():
  heading = np.where(np.arange(20) < 8, 1.5 * math.pi - 0.1, -math.pi / 2 + 0.1)
  wrapped = windows.make_windows(make_route(20, heading=heading))
  np.testing.assert_allclose(wrapped.proprio[8, :, 7], [-.2] * 4 + [0],
                             atol=1e-5)
  raw = windows.make_windows(make_route(20, heading=heading), wrap_theta=False)
  np.testing.assert_allclose(raw.proprio[8, :, 7],
                             [2 * math.pi - .2] * 4 + [0], atol=1e-5)


def test_wrap_keeps_plus_pi():
  np.testing.assert_allclose(
      navigation.wrap(np.array([math.pi, -math.pi, 3.5, -0.1])),
      [math.pi, math.pi, 3.5 - math.tau, -0.1])


def test_route_no_longer_than_the_horizon_is_refused():
  assert len(windows.make_windows(make_route(11), horizon=10)) == 1
  with pytest.raises(errors.DataError, match="10 frames.*10 needs at least 11"):
    windows.make_windows(make_route(10), horizon=10)


def write_routes(tmp_path, lengths):
  names = [fixtures.NAME.format(i) for i in range(len(lengths))]
  for name, frames in zip(names, lengths, strict=True):
    fixtures.write_route(tmp_path, name, frames=frames)
  return str(tmp_path), str(tmp_path / "labels"), names


def test_collect_joins_routes_in_order(tmp_path):
  root, labels, names = write_routes(tmp_path, [12, 14])
  got = windows.collect(root, labels, names)
  assert got.routes == tuple(names) and got.root == root
  assert got.route_index.tolist() == [0] * 2 + [1] * 4
  assert got.frame.tolist() == [0, 1, 0, 1, 2, 3]
  assert got.camera.tolist() == [2] * 6 and got.skill.tolist() == [6] * 6
  assert windows.collect(root, None, names).camera is None
  assert not got.drop_current_point
  dropped = windows.collect(root, None, names, drop_current_point=True)
  assert dropped.drop_current_point and len(dropped) == len(got) - 2


def test_processes_change_nothing(tmp_path):
  root, labels, names = write_routes(tmp_path, [12, 5, 14])
  read = lambda workers: windows.collect(
      root, labels, names, on_bad_record="skip", workers=workers)
  one, two = read(1), read(2)
  assert one.skipped == two.skipped and len(one.skipped) == 1
  for key in windows.SAMPLE_ARRAYS:
    np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def test_bad_routes_fail_or_are_skipped_up_to_the_cap(tmp_path):
  root, labels, names = write_routes(tmp_path, [12, 5, 6, 14])
  with pytest.raises(errors.DataError, match="has 5 frames"):
    windows.collect(root, labels, names)
  got = windows.collect(root, labels, names, on_bad_record="skip",
                        skip_cap=0.5)
  assert got.routes == (names[0], names[3])
  assert [name for name, _ in got.skipped] == names[1:3]
  assert "has 5 frames" in got.skipped[0][1]
  with pytest.raises(errors.DataError, match="2 bad routes.*allows 1.*raise"):
    windows.collect(root, labels, names, on_bad_record="skip", skip_cap=0.25)
  with pytest.raises(errors.ConfigError, match="'ignore'"):
    windows.collect(root, labels, names, on_bad_record="ignore")


def test_misaligned_labels_are_never_skipped(tmp_path):
  root, labels, names = write_routes(tmp_path, [12, 12])
  fixtures.write_labels(tmp_path / "labels", names[0], ["NULL"] * 11,
                        ["NORMAL"] * 12)
  for workers in (1, 2):
    with pytest.raises(bench2drive.MisalignedError,
                       match="^E-DATA: [^:]*labels 11 frames"):
      windows.collect(root, labels, names, on_bad_record="skip", skip_cap=1.0,
                      workers=workers)


def test_no_sample_at_all_is_an_error(tmp_path):
  with pytest.raises(errors.DataError, match="no sample"):
    windows.collect(str(tmp_path), None, [])


def test_a_whole_past_leaves_out_what_is_padded():
  parts = [windows.make_windows(
      make_route(frames, name=f"A_Town01_Route{frames}_Weather0", camera=None),
      history=5, horizon=4) for frames in (12, 7, 20)]
  joined = windows.join(parts)
  whole = windows.with_whole_past(joined)
  assert whole.frame.tolist() == [*range(4, 8), *range(4, 16)]
  assert whole.route_index.tolist() == [0] * 4 + [2] * 12
  assert whole.camera is None and whole.routes == joined.routes
  # The past is what was driven: t metres a second at frame t.
  np.testing.assert_array_equal(
      whole.proprio[:, :, 0], whole.frame[:, None] + np.arange(-4, 1))
  with pytest.raises(errors.DataError, match="past of 5 .*whole_past=False"):
    windows.with_whole_past(parts[1])
