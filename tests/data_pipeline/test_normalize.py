"""Percentile statistics: published identities, pooling, files."""

import dataclasses

import numpy as np
import pytest

from data_pipeline import errors, normalize, windows
from tests.data_pipeline.test_windows import make_route


def make(frames=60, horizon=10, **changes):
  return windows.make_windows(make_route(frames, **changes), horizon=horizon)


def test_published_identities():
  # The future starts at the present, so its first row is this constant.
  zero = normalize.apply("action", np.zeros((1, 2)), normalize.OFFICIAL_H10)
  np.testing.assert_allclose(zero, [[-0.99776, 0.07814]], atol=5e-6)


@pytest.mark.parametrize("kind,width",
                         [("proprio", 10), ("goal", 2), ("action", 2)])
def test_invert_undoes_apply(kind, width):
  values = np.random.default_rng(0).normal(size=(3, 5, width)) * 10
  there = normalize.apply(kind, values, normalize.OFFICIAL_H10)
  assert there.dtype == np.float32 and abs(there).max() > 1  # not clipped
  back = normalize.invert(kind, there, normalize.OFFICIAL_H10)
  np.testing.assert_allclose(back, values, atol=1e-4)


def test_columns_scale_by_their_own_key():
  low, high = normalize.OFFICIAL_H10.bounds("proprio")
  official = normalize.OFFICIAL_H10
  assert low[0] == official.p01["speed"]
  assert list(low[1:4]) == [official.p01["acceleration"]] * 3
  assert list(high[4:7]) == [official.p99["angular_velocity"]] * 3
  assert high[7] == official.p99["theta"]
  goal_low, _ = official.bounds("goal")
  assert list(goal_low) == list(low[8:]) == [
      official.p01["command_far_x"], official.p01["command_far_y"]]


def test_percentiles_pool_axes_and_interpolate():
  data = make()
  got = normalize.compute(data)
  pooled = np.sort(data.proprio[..., 1:4].astype(np.float64).ravel())
  place = 0.99 * (len(pooled) - 1)   # linear interpolation between ranks
  low = int(place)
  want = pooled[low] + (place - low) * (pooled[low + 1] - pooled[low])
  np.testing.assert_allclose(got.p99["acceleration"], want)
  # 1 m a frame, rows 0 to 9: p99 of the pooled rows is 9, p01 is 0.
  np.testing.assert_allclose([got.p01["fur_x"], got.p99["fur_x"]], [0, 9])
  assert got.horizon == 10


def test_constant_number_is_widened_and_maps_to_zero():
  got = normalize.compute(make())
  assert "fur_y" in got.widened and "theta" in got.widened
  assert "speed" not in got.widened
  scaled = normalize.apply("action", make().action, got)
  assert np.isfinite(scaled).all() and (scaled[..., 1] == 0).all()


def parts(horizon=10, **options):
  """Windows of three routes that differ, one of them standing still."""
  rng = np.random.default_rng(0)
  routes = [
      make_route(n, speed=np.full(n, v) + rng.normal(size=n),
                 acceleration=rng.normal(size=(n, 3)) + [0, 0, 9.8],
                 position=np.cumsum(rng.normal([v / 10, 0], 0.05, (n, 2)), 0),
                 heading=np.cumsum(rng.normal(0, 0.02, n)))
      for n, v in ((70, 5.0), (40, 0.0), (55, 11.0))]
  return [windows.make_windows(route, horizon=horizon, **options)
          for route in routes]


@pytest.mark.parametrize("horizon", [10, 20, 21])
def test_statistics_of_parts_merge_to_those_of_the_whole(horizon):
  pieces = parts(horizon)
  pools = [normalize.Pool.of(piece) for piece in pieces]
  whole = windows.join(pieces)
  want = normalize.compute(whole)
  assert want.horizon == horizon and not want.widened
  assert normalize.Pool.merge(pools).statistics() == want
  again = normalize.Pool.merge([pools[2], normalize.Pool.merge(pools[:2])])
  assert again.statistics() == want
  # And they are what NumPy says of the pooled elements.
  np.testing.assert_allclose(
      [want.p01["fur_x"], want.p99["fur_x"]],
      np.percentile(whole.action[..., 0].astype(np.float64), [1, 99]))


def test_a_longer_horizon_reaches_further():
  p99 = [normalize.compute(windows.join(parts(h))).p99["fur_x"]
         for h in (10, 20, 21)]
  assert p99[0] * 1.9 < p99[1] < p99[2]


def test_pools_of_other_plans_do_not_merge():
  mixed = parts(10)[:1] + parts(20)[:1]
  with pytest.raises(errors.DataError, match="10, False.*20, False"):
    normalize.Pool.merge(map(normalize.Pool.of, mixed))
  mixed = parts(10)[:1] + parts(10, drop_current_point=True)[:1]
  with pytest.raises(errors.DataError, match="2 kinds of plans"):
    normalize.Pool.merge(map(normalize.Pool.of, mixed))
  with pytest.raises(errors.DataError, match="0 kinds"):
    normalize.Pool.merge([])


def test_not_a_number_has_no_percentile():
  data = make()
  data.proprio[3, 4, 0] = np.nan
  with pytest.raises(errors.DataError, match="speed: 1 of 250 values"):
    normalize.compute(data)


@pytest.mark.parametrize("horizon", [10, 20, 21])
def test_the_present_may_be_left_out_of_plans(horizon):
  data = windows.join(parts(horizon, drop_current_point=True))
  got = normalize.compute(data)
  assert got.horizon == horizon and got.drop_current_point
  np.testing.assert_allclose(
      got.p01["fur_x"],
      np.percentile(data.action[:, 1:, 0].astype(np.float64), 1))
  plans = normalize.apply("action", data.action, got)
  assert plans.shape == (len(data), horizon, 2)
  back = normalize.invert("action", plans, got)
  np.testing.assert_allclose(back, data.action, atol=1e-4)
  assert back.dtype == np.float32 and not back[:, 0].any()
  # Nothing else loses a row.
  assert normalize.apply("proprio", data.proprio, got).shape[1] == 5


def test_statistics_fit_plans_of_their_own_kind_only(tmp_path):
  dropped = parts(10, drop_current_point=True)[0]
  got = normalize.compute(dropped)
  got.check(dropped)
  with pytest.raises(errors.DataError, match="drop_current_point True.*False"):
    got.check(parts(10)[0])
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 9"):
    got.check(parts(9, drop_current_point=True)[0])
  got.save(str(tmp_path / "s.json"))
  assert normalize.load(str(tmp_path / "s.json"), 10) == got


def test_another_horizons_numbers_are_taken_when_asked_for(tmp_path):
  path = str(tmp_path / "s.json")
  normalize.OFFICIAL_H10.save(path)
  got = normalize.load(path, 21, any_horizon=True)
  assert got.horizon == 21 and got.p99 == normalize.OFFICIAL_H10.p99


def test_file_round_trip(tmp_path):
  path = str(tmp_path / normalize.file_name(10))
  assert path.endswith("statistics_h10.json")
  statistics = normalize.compute(make())
  statistics.save(path)
  assert normalize.load(path, 10) == statistics
  assert [p.name for p in tmp_path.iterdir()] == ["statistics_h10.json"]


def test_another_horizon_is_refused(tmp_path):
  path = str(tmp_path / "statistics.json")
  normalize.compute(make(horizon=10)).save(path)
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 21"):
    normalize.load(path, 21)
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 21"):
    normalize.compute(make(horizon=21)).save(path, overwrite=True)


def test_saving_again_changes_no_file_unless_told(tmp_path):
  path = str(tmp_path / "statistics.json")
  first = normalize.compute(make())
  first.save(path)
  first.save(path)
  other = dataclasses.replace(first, p99=first.p99 | {"speed": 99.0})
  with pytest.raises(errors.DataError, match="holds other statistics"):
    other.save(path)
  assert normalize.load(path, 10) == first
  other.save(path, overwrite=True)
  assert normalize.load(path, 10) == other


def test_absent_or_broken_file_is_named(tmp_path):
  path = tmp_path / "statistics.json"
  with pytest.raises(errors.DataError, match="statistics.json: No such file"):
    normalize.load(str(path), 10)
  for content in ("{", "[]", '{"horizon": 10, "p01": {}}'):
    path.write_text(content)
    with pytest.raises(errors.DataError, match="statistics.json does not hold"):
      normalize.load(str(path), 10)
