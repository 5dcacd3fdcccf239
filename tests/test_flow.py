"""The path, its velocity, its times and its integral."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax import flow


def test_velocity_is_the_time_derivative_of_the_path():
  noise, action = jax.random.normal(jax.random.key(0), (2, 4, 10, 2))
  path = lambda t: flow.interpolate(noise, action, t)
  t = jnp.linspace(0.0, 1.0, 4)
  _, slope = jax.jvp(path, (t,), (jnp.ones_like(t),))
  np.testing.assert_allclose(slope, flow.target_velocity(noise, action),
                             atol=1e-5)


def test_path_runs_from_noise_to_action_with_a_trace_of_noise():
  noise, action = jnp.full((2, 1, 2), 3.0), jnp.full((2, 1, 2), 5.0)
  got = flow.interpolate(noise, action, jnp.array([0.0, 1.0]))
  np.testing.assert_allclose(got[:, 0, 0], [3.0, 5.0 + 0.001 * 3.0], rtol=1e-6)


def test_beta_times_lean_towards_noise():
  t = flow.sample_time(jax.random.key(0), 200000)
  assert 0.0 <= t.min() and t.max() <= 0.999
  # 1 - z with z ~ Beta(3/2, 1): mean 2/5, P(t < x) = 1 - (1 - x/0.999)^1.5
  np.testing.assert_allclose(t.mean(), 0.999 * 0.4, atol=2e-3)
  np.testing.assert_allclose((t < 0.5).mean(), 1 - (1 - 0.5 / 0.999) ** 1.5,
                             atol=4e-3)


def test_uniform_times_are_evenly_spread():
  t = np.sort(flow.sample_time(jax.random.key(0), 8, "uniform"))
  np.testing.assert_allclose(np.diff(t), 1 / 8, atol=1e-4)


def test_unknown_time_sampling_is_refused():
  with pytest.raises(ValueError, match="cosine.*beta, uniform"):
    flow.sample_time(jax.random.key(0), 2, "cosine")


def test_euler_is_exact_for_a_constant_velocity():
  noise = jnp.ones((2, 3, 2))
  v = lambda x, t: (jnp.full_like(x, -2.0), t)
  points, velocities, times = flow.integrate(v, noise, 4)
  assert points.shape == (5, 2, 3, 2) and velocities.shape == (4, 2, 3, 2)
  np.testing.assert_allclose(points[-1], -1.0, atol=1e-6)
  np.testing.assert_allclose(times[:, 0], [0, 0.25, 0.5, 0.75])


def test_euler_converges_on_an_exponential():
  v = lambda x, t: (x, ())
  error = [abs(float(flow.integrate(v, jnp.ones((1, 1, 1)), n)[0][-1, 0, 0, 0])
               - np.e) for n in (10, 20)]
  assert error[1] < 0.6 * error[0]
