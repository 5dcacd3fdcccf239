"""The blind drivers: what they must know, and what they cannot know."""

import types

import numpy as np

from drivemoe_jax.evaluators import open_loop, yardsticks


def test_constant_velocity_by_hand():
  got = yardsticks.constant_velocity([0.0, 10.0], horizon=3)
  np.testing.assert_allclose(got, [[[0, 0]] * 3, [[0, 0], [1, 0], [2, 0]]])


def drives(count, seed=0):
  """Cars that keep speed and yaw rate; both are among the features."""
  rng = np.random.default_rng(seed)
  speed, rate = rng.uniform(0, 10, count), rng.uniform(-0.4, 0.4, count)
  time = np.arange(10) / 10
  heading = rate[:, None] * time
  action = np.stack([speed[:, None] * time * np.cos(heading / 2),
                     speed[:, None] * time * np.sin(heading / 2)], -1)
  noise = rng.normal(size=(count, 4))
  features = np.concatenate(
      [speed[:, None], rate[:, None] * 1e-3, noise, np.ones((count, 1))], 1)
  return features, action, np.arange(count) // 50


def test_the_mlp_learns_what_the_ego_state_tells():
  features, action, route = drives(1500)
  test_features, test_action, _ = drives(300, seed=1)
  predict, fit = yardsticks.fit_ego_mlp(features, action, route)
  got = predict(test_features)
  assert got.shape == test_action.shape
  blind = open_loop.ade(
      yardsticks.constant_velocity(test_features[:, 0], 10), test_action)
  assert open_loop.ade(got, test_action) < 0.5 * blind
  np.testing.assert_allclose(got[:, 0], 0, atol=0.02)
  assert fit["held_out_windows"] == 200  # 4 of 30 routes of 50 windows


def test_the_same_seed_gives_the_same_mlp():
  features, action, route = drives(200)
  one, _ = yardsticks.fit_ego_mlp(features, action, route, seed=3)
  two, _ = yardsticks.fit_ego_mlp(features, action, route, seed=3)
  np.testing.assert_array_equal(one(features), two(features))


def test_pure_noise_stops_early():
  features, action, route = drives(400)
  rng = np.random.default_rng(0)
  _, noise = yardsticks.fit_ego_mlp(
      rng.normal(size=features.shape), action, route)
  assert noise["steps"] < yardsticks.ROUNDS * yardsticks.ROUND_STEPS / 2


def test_a_single_route_trains_on_everything():
  features, action, _ = drives(100)
  predict, fit = yardsticks.fit_ego_mlp(features, action, np.zeros(100))
  assert fit["held_out_windows"] == 0 and fit["train_windows"] == 100
  assert np.isfinite(predict(features)).all()


def test_what_the_ego_state_does_not_tell_surprises():
  """One drive in ten stops, and nothing in its past says so."""
  rng = np.random.default_rng(0)
  speed, stops = rng.uniform(2, 10, 1000), np.arange(1000) % 10 == 0
  time = np.arange(10) / 10
  action = np.zeros((1000, 10, 2), np.float32)
  action[..., 0] = speed[:, None] * np.where(
      stops[:, None], np.minimum(time, 0.3), time)
  proprio = np.zeros((1000, 5, 10), np.float32)
  proprio[:, :, 0] = speed[:, None]
  windows = types.SimpleNamespace(
      proprio=proprio, goal=proprio[:, -1, 8:10], action=action,
      route_index=np.arange(1000) // 50)
  got = yardsticks.surprise(windows)
  assert got.shape == (1000,)
  assert np.median(got[stops]) > 3 * np.median(got[~stops])
