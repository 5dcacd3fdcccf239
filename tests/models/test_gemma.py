"""One stream's maths: rotation, attention, norms. Axes as in gemma.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax.models import gemma

normal = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)


def test_rope_sees_only_distances():
  q, k = normal(0, 1, 1, 1, 8), normal(1, 1, 1, 1, 8)
  dot = lambda i, j: jnp.vdot(gemma.rope(q, jnp.array([i]), 10000.0),
                              gemma.rope(k, jnp.array([j]), 10000.0))
  np.testing.assert_allclose(dot(3, 7), dot(10, 14), rtol=1e-5)
  assert abs(dot(3, 7) - dot(3, 8)) > 1e-3


def test_rope_turns_the_first_pair_by_its_position():
  x = jnp.zeros((1, 1, 1, 4)).at[..., 0].set(1.0)
  got = gemma.rope(x, jnp.array([2]), 100.0)[0, 0, 0]
  # pair (0, 2) turns by 2 * 100^0, pair (1, 3) is empty
  np.testing.assert_allclose(got, [np.cos(2), 0, np.sin(2), 0], atol=1e-6)


@pytest.mark.parametrize("cap", [0.0, 3.0])
def test_attention_equals_a_loop_over_heads(cap):
  b, t, s, n, kv, h = 2, 3, 5, 4, 2, 6
  q = normal(0, b, t, n, h)
  k, v = normal(1, b, s, kv, h), normal(2, b, s, kv, h)
  allowed = np.ones((b, t, s), bool)
  allowed[1, :, 2] = False
  got = gemma.attention(q, k, v, jnp.asarray(allowed), cap)
  for head in range(n):
    shared = head // (n // kv)  # consecutive query heads share a kv head
    logits = np.einsum("bth,bsh->bts", q[:, :, head], k[:, :, shared]) / h ** .5
    if cap:
      logits = cap * np.tanh(logits / cap)
    weights = np.exp(logits) * allowed
    weights /= weights.sum(-1, keepdims=True)
    want = np.einsum("bts,bsh->bth", weights, v[:, :, shared])
    np.testing.assert_allclose(got[:, :, head], want, atol=1e-5)


def test_cap_comes_before_the_mask():
  # All visible logits lie near -cap: a mask that were capped would reach them.
  q, k = jnp.full((1, 1, 1, 4), -40.0), jnp.full((1, 3, 1, 4), 40.0)
  v = jnp.array([1.0, 2.0, 100.0])[None, :, None, None] * jnp.ones(4)
  allowed = jnp.array([[[True, True, False]]])
  np.testing.assert_allclose(gemma.attention(q, k, v, allowed, 50.0), 1.5)


def test_a_row_without_keys_stays_finite():
  x = normal(0, 1, 2, 1, 4)
  got = gemma.attention(x, x, x, jnp.zeros((1, 2, 2), bool), 50.0)
  np.testing.assert_allclose(got, jnp.broadcast_to(x.mean(1, keepdims=True),
                                                   x.shape), atol=1e-6)


def test_norm_scale_is_an_offset_from_one():
  x = jnp.array([[[3.0, 4.0]]])  # mean square 12.5
  norm = gemma.Norm(0.0, jnp.float32)
  got = norm.apply({"params": {"scale": jnp.array([0.0, 1.0])}}, x)
  np.testing.assert_allclose(got[0, 0], [3 / 12.5 ** .5, 8 / 12.5 ** .5],
                             rtol=1e-6)


def test_adaptive_norm_has_no_offset_from_one():
  x, c = jnp.array([[[3.0, 4.0]]]), jnp.array([[2.0]])
  params = {"gamma": {"kernel": jnp.zeros((1, 2)), "bias": jnp.zeros(2)},
            "beta": {"kernel": jnp.array([[0.5, 0.0]])}}
  got = gemma.Norm(0.0, jnp.float32, True).apply({"params": params}, x, c)
  # sigmoid(0) = 1/2; beta = 0.5 * 2 on the first coordinate
  want = [0.5 * 3 / 12.5 ** .5 + 1.0, 0.5 * 4 / 12.5 ** .5]
  np.testing.assert_allclose(got[0, 0], want, rtol=1e-6)


def test_padding_embeds_to_zero_and_text_is_scaled():
  table = normal(0, 5, 4)
  got = gemma.Embedder(5, 4, jnp.float32).apply(
      {"params": {"input_embedding": table}}, jnp.array([[3, 0]]))
  np.testing.assert_allclose(got[0, 0], table[3] * 2.0)
  assert not got[0, 1].any()
