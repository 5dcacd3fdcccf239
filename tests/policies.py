"""A policy with random parameters, small enough for any test."""

import functools

import numpy as np

from data_pipeline import normalize
from drivemoe_jax import policy
from tests.models import tiny

PROMPT = (2, 5)


def model():
  """Sizes of a drive: five frames of past, ten points ahead."""
  return tiny.model(layers=2, vision_layers=1, moe_layers=1, num_views=5,
                    history=5, horizon=10, proprio_dim=10)


@functools.cache
def make(seed=0):
  """A policy.Policy; calls share what is compiled."""
  m = model()
  return policy.Policy(m, tiny.init(m), normalize.OFFICIAL_H10,
                       prompt_ids=PROMPT, steps=2, seed=seed,
                       checkpoint_step=9)


def observations(count, seed=0):
  """Different observations, at ticks 11, 13, ..."""
  return [dict(make().example(seed + i), step=11 + 2 * i)
          for i in range(count)]


def equal(a, b, atol=0.0):
  """Whether two answers are the same, actions to `atol`."""
  return (set(a) == set(b) and np.allclose(
      a["actions"], b["actions"], rtol=0, atol=atol)
      and all(a[k] == b[k] for k in ("camera", "skill")))
