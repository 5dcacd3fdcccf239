"""The gated MLP against its formula, and with shares as several experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax.models import gated_mlp


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def plain(x, gating, linear, share):
  gate, up = (x @ w for w in gating)
  hidden = jax.nn.gelu(gate, approximate=True) * up
  width = hidden.shape[-1] // share.shape[-1]
  return (hidden * jnp.repeat(share, width, axis=-1)) @ linear


def arguments(experts):
  return (normal(0, 2, 3, 4), normal(2, 2, 4, 6), normal(3, 6, 4),
          jax.random.uniform(jax.random.key(4), (2, 3, experts)))


@pytest.mark.parametrize("experts", [1, 2, 3])
def test_gradient_of_its_formula(experts):
  args, dy = arguments(experts), normal(1, 2, 3, 4)
  got, back = jax.vjp(gated_mlp.gated_mlp, *args)
  want, book = jax.vjp(plain, *args)
  np.testing.assert_allclose(got, want, atol=1e-5)
  np.testing.assert_allclose(gated_mlp.gated_mlp(*args), want, atol=1e-5)
  for mine, theirs in zip(back(dy), book(dy), strict=True):
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_without_shares_it_is_one_mlp():
  x, gating, linear, _ = arguments(1)
  share = jnp.ones((2, 3, 1))
  dy = normal(1, 2, 3, 4)
  got, back = jax.vjp(gated_mlp.gated_mlp, x, gating, linear)
  want, book = jax.vjp(lambda *args: plain(*args, share), x, gating, linear)
  np.testing.assert_allclose(got, want, atol=1e-5)
  for mine, theirs in zip(back(dy), book(dy), strict=True):
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_many_tokens_and_few_have_the_same_mlp(monkeypatch):
  for args in (arguments(1)[:3], arguments(2)):
    few = gated_mlp.gated_mlp(*args)
    with monkeypatch.context() as patch:
      patch.setattr(gated_mlp, "FEW", 0)
      np.testing.assert_allclose(gated_mlp.gated_mlp(*args), few, atol=1e-5)
