"""One stream's maths: rotation and norms. Axes as in gemma.py."""

import jax
import jax.numpy as jnp
import numpy as np

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
