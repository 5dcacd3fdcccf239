"""Attention and its hand-written gradient. Axes as in attention.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax.models import attention, attention_blocks, precision

normal = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)


@pytest.fixture(params=["split", "together", "by sample", "by head"],
                autouse=True)
def way(request, monkeypatch):
  """All ways to compute it: as on several devices, and blocks of any size."""
  if request.param == "split":
    monkeypatch.setattr(precision, "by_backend",
                        lambda *args, cpu, default: default(*args))
  else:
    most = {"together": 10**6, "by sample": 60, "by head": 0}[request.param]
    monkeypatch.setattr(attention_blocks, "CACHED", most)


def plain(q, k, v, allowed, cap):
  """Softmax attention as it is written in a book, all heads spelt out."""
  k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
  scores = jnp.einsum("btnh,bsnh->bnts", q, k) / q.shape[-1] ** 0.5
  if cap:
    scores = cap * jnp.tanh(scores / cap)
  if allowed is not None:
    scores = jnp.where(allowed[:, None], scores, -jnp.inf)
  return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores, -1), v)


@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("masked", [True, False])
def test_values_and_gradients_are_those_of_the_book(cap, masked):
  b, t, s, n, kv, h = 2, 3, 5, 4, 2, 6
  q = 2.0 * normal(0, b, t, n, h)
  k, v = normal(1, b, s, kv, h), normal(2, b, s, kv, h)
  allowed = None
  if masked:
    allowed = jnp.ones((b, t, s), bool).at[1, :, 2].set(False)
    allowed = allowed.at[0, 1, 3:].set(False)
  got, back = jax.vjp(
      lambda *x: attention.attend(*x, allowed, cap), q, k, v)
  want, book = jax.vjp(lambda *x: plain(*x, allowed, cap), q, k, v)
  np.testing.assert_allclose(got, want, atol=1e-6)
  for mine, theirs in zip(back(got + 1.0), book(got + 1.0)):
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_kv_heads_serve_consecutive_query_heads():
  q, k = jnp.zeros((1, 1, 4, 2)), jnp.zeros((1, 3, 2, 2))
  v = jnp.broadcast_to(jnp.array([1.0, 2.0])[None, None, :, None], (1, 3, 2, 2))
  np.testing.assert_allclose(attention.attend(q, k, v)[0, 0, :, 0],
                             [1, 1, 2, 2])


def test_cap_comes_before_the_mask():
  # All visible scores lie near -cap: a mask that were capped would reach them.
  q, k = jnp.full((1, 1, 1, 4), -40.0), jnp.full((1, 3, 1, 4), 40.0)
  v = jnp.array([1.0, 2.0, 100.0])[None, :, None, None] * jnp.ones(4)
  allowed = jnp.array([[[True, True, False]]])
  np.testing.assert_allclose(attention.attend(q, k, v, allowed, 50.0), 1.5)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_scores_at_the_largest_cap_stay_exact(sign, dtype):
  q = jnp.full((1, 2, 1, 4), sign * 1e4, dtype)
  k, v = jnp.full((1, 900, 1, 4), 1e4, dtype), jnp.ones((1, 900, 1, 4), dtype)
  run = lambda v: attention.attend(q, k, v, None, attention.LARGEST_CAP)
  got, back = jax.vjp(run, v)
  np.testing.assert_allclose(got.astype(jnp.float32), 1.0, rtol=1e-2)
  np.testing.assert_allclose(back(got)[0].astype(jnp.float32), 2 / 900,
                             rtol=1e-2)


@pytest.mark.parametrize("cap", [0.0, 50.0])
def test_a_row_without_keys_stays_finite(cap):
  x, none = normal(0, 1, 2, 1, 4), jnp.zeros((1, 2, 2), bool)
  got, back = jax.vjp(lambda x: attention.attend(x, x, x, none, cap), x)
  assert np.isfinite(got).all()
  assert np.isfinite(back(jnp.ones_like(got))[0]).all()
