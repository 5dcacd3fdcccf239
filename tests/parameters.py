"""A parameter tree with one leaf of each kind of rule, too small to compute."""

import jax.numpy as jnp
import numpy as np


def make_params(seed=0, layers=1):
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.array(rng.normal(size=shape), jnp.float32)
  return {
      "llm": {"layers": {"dense": {"mlp": {"linear": normal(layers, 16, 8)}}}},
      "expert": {"action": {"layers": {"last": {"moe": {
          "linear": normal(1, 8, 8, 4)}}}}},
      "router": {"skill": {"kernel": normal(4, 7)}}}
