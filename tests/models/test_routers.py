"""Choices of views and experts, worked out by hand where that is possible."""

import jax
import jax.numpy as jnp
import numpy as np

from drivemoe_jax.models import routers


def test_a_label_forces_noise_samples_and_neither_takes_the_likeliest():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
  pick = lambda **kw: routers.choose_view(logits, **kw)[0].tolist()
  assert pick() == [1, 0, 0]
  assert pick(label=jnp.array([2])) == [0, 0, 1]
  assert pick(gumbel=jnp.array([[0.0, 1.0, 0.0]])) == [0, 1, 0]


def test_sampled_view_is_hard_with_the_gradient_of_the_soft_choice():
  logits, noise = jnp.array([[0.2, -0.4, 1.0]]), jnp.array([[0.5, 0.1, -1.0]])
  value = jnp.array([3.0, -1.0, 2.0])
  hard = lambda x: (routers.choose_view(x, gumbel=noise) @ value)[0]
  soft = lambda x: (jax.nn.softmax(x + noise) @ value)[0]
  assert hard(logits) == 3.0
  np.testing.assert_allclose(jax.grad(hard)(logits), jax.grad(soft)(logits),
                             atol=1e-6)


def test_gumbel_noise_samples_the_softmax():
  logits = jnp.log(jnp.array([0.6, 0.3, 0.1]))
  noise = jax.random.gumbel(jax.random.key(0), (20000, 3))
  share = routers.choose_view(jnp.tile(logits, (20000, 1)), gumbel=noise)
  np.testing.assert_allclose(share.mean(0), [0.6, 0.3, 0.1], atol=0.015)


def test_top_k_keeps_renormalises_and_zeroes_exactly():
  logits = jnp.log(jnp.array([[[0.4, 0.1, 0.3, 0.2]]]))
  got = routers.top_k_weights(logits, 2)[0, 0]
  np.testing.assert_allclose(got, [4 / 7, 0, 3 / 7, 0], rtol=1e-6)
  assert got[1] == 0.0 and got[3] == 0.0


def test_ties_go_to_the_first_expert():
  assert routers.top_k_weights(jnp.zeros((1, 1, 3)), 1)[0, 0].tolist() == [1, 0,
                                                                           0]


def test_scaled_gradient_leaves_the_value():
  x = jnp.array([1.5, -2.0])
  value, grad = jax.value_and_grad(
      lambda x: (routers.scale_gradient(x, 0.25) ** 2).sum())(x)
  assert value == (x ** 2).sum()
  np.testing.assert_allclose(grad, 0.25 * 2 * x)


def test_every_layer_sends_its_share_of_the_gradient():
  logits = jnp.array([[[0.3, 0.1, -0.2]]])
  total = lambda x, m: (routers.expert_weights(
      x, top_k=2, moe_layers=m, shared=1)[0, 0, 0])
  one, four = (jax.grad(total)(logits, m) for m in (1, 4))
  np.testing.assert_allclose(four, one / 4, rtol=1e-6)
  assert jnp.abs(one).max() > 0


def test_shared_experts_are_the_last_and_always_on():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
  kw = dict(top_k=2, moe_layers=1, shared=2)
  got = routers.expert_weights(logits, **kw)
  assert got.shape == (2, 3, 7)
  assert (got[..., 5:] == 1.0).all()
  np.testing.assert_allclose(got[..., :5].sum(-1), 1.0, rtol=1e-6)
  labelled = routers.expert_weights(logits, label=jnp.array([4, 1]), **kw)
  assert labelled[0, :, 4].tolist() == [1, 1, 1]
  assert labelled[..., :5].sum() == 6


def test_token_logits_average_to_the_trajectory_logits():
  x = jax.random.normal(jax.random.key(0), (2, 4, 6))
  token = routers.SkillRouter(5, "token")
  params = token.init(jax.random.key(1), x)
  params = jax.tree.map(lambda p: p - 1.7, params)  # temperature -0.7: its size
  whole = routers.SkillRouter(5, "trajectory").apply(params, x)
  np.testing.assert_allclose(token.apply(params, x).mean(1), whole[:, 0],
                             atol=1e-5)
  want = x.mean(1) @ params["params"]["kernel"] / 0.7
  np.testing.assert_allclose(whole[:, 0], want, atol=1e-5)
