"""A model small enough for a test, with no two sizes alike, and its inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from drivemoe_jax import step as steps
from drivemoe_jax.models import drivemoe

SIZES = dict(
    vision_width=12, vision_layers=2, vision_heads=2, vision_mlp=20,
    image_size=16, patch_size=8, vlm_width=24, vlm_mlp=36, expert_width=16,
    expert_mlp=28, layers=4, heads=4, kv_heads=2, head_dim=10, moe_layers=2,
    skill_experts=5, shared_experts=1, top_k=2, vocab_size=32, text_len=6,
    num_views=3, camera_heads=4, camera_hidden=9, history=3, horizon=4,
    proprio_dim=7, time_width=18)


def model(**changes):
  return drivemoe.DriveMoE(**(SIZES | changes))


def inputs(m, batch=3, seed=0):
  """Random keyword arguments of the model, labels and noise included."""
  key = iter(jax.random.split(jax.random.key(seed), 9))
  normal = lambda *shape: jax.random.normal(next(key), shape)
  side = m.image_size
  text = jnp.tile(jnp.array([2, 5, 6, 7, 0, 0]), (batch, 1))
  return dict(
      images=jax.random.randint(next(key), (batch, 2 + m.num_views, side, side,
                                            3), 0, 256).astype(jnp.uint8),
      text=text, proprio=normal(batch, m.history, m.proprio_dim),
      goal=normal(batch, 2), noisy_action=normal(batch, m.horizon, 2),
      time=jax.random.uniform(next(key), (batch,)),
      camera=jnp.arange(batch) % m.num_views,
      skill=jnp.arange(batch) % m.skill_experts,
      gumbel=jax.random.gumbel(next(key), (batch, m.num_views)))


def init(m, seed=1):
  """Random parameters of usual size, norms, biases and all."""
  shapes = steps.param_shapes(m)
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda p: jnp.asarray(
      rng.normal(0, (p.shape[-2] if len(p.shape) > 1 else 4) ** -0.5, p.shape),
      jnp.float32), shapes)
