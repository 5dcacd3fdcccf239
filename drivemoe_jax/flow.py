"""Flow matching: times, straight path, its velocity, and Euler integration.

t runs from 0 (noise) to 1 (the plan). Pure functions in float32.
Axes: B samples, H waypoints, 2 coordinates.
"""

import jax
import jax.numpy as jnp

SIGMA_MIN = 1e-3
TIME_SAMPLINGS = ("beta", "uniform")


def sample_time(rng, batch, kind="beta", sigma_min=SIGMA_MIN):
  """Training times [B].

  "beta" is the release's (1 - sigma_min)(1 - z), z ~ Beta(1.5, 1), tilted
  towards noise (mean 0.4); z = u^(2/3) is its inverse distribution function.
  "uniform" spreads one draw evenly over the batch, in [0, 1 - 1e-5).
  """
  if kind == "beta":
    u = jax.random.uniform(rng, (batch,))
    return (1.0 - sigma_min) * (1.0 - u ** (2.0 / 3.0))
  if kind == "uniform":
    u = jax.random.uniform(rng) + jnp.arange(batch) / batch
    return u % (1.0 - 1e-5)
  raise ValueError(
      f"unknown time sampling {kind!r}; known: {', '.join(TIME_SAMPLINGS)}")


def interpolate(noise, action, time, sigma_min=SIGMA_MIN):
  """Point of the path at `time` [B]: [B,H,2]; a trace of noise stays at 1."""
  t = time[:, None, None]
  return (1.0 - (1.0 - sigma_min) * t) * noise + t * action


def target_velocity(noise, action, sigma_min=SIGMA_MIN):
  """Time derivative of the path, constant in t: [B,H,2]."""
  return action - (1.0 - sigma_min) * noise


def integrate(velocity, noise, steps):
  """Euler steps from noise to plan.

  Args:
    velocity: (x [B,H,2], t [B]) -> ([B,H,2], aux).
    noise: [B,H,2] at t = 0. steps: number of equal steps.

  Returns:
    Points [steps+1,B,H,2], velocities [steps,B,H,2] and the stacked aux.
  """
  def step(x, i):
    t = jnp.full(noise.shape[:1], i / steps, jnp.float32)
    v, aux = velocity(x, t)
    x = x + v / steps
    return x, (x, v, aux)

  _, (points, velocities, aux) = jax.lax.scan(
      step, noise, jnp.arange(steps, dtype=jnp.float32))
  return jnp.concatenate([noise[None], points]), velocities, aux
