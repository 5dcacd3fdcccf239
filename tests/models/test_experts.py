"""The stack of experts against a loop, and its symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax.models import experts

BANK = experts.ExpertBank(experts=5, hidden=7, dtype=jnp.float32)


def tiny_bank(groups=1):
  x = jax.random.normal(jax.random.key(0), (3, 4, 6))
  weights = jax.random.uniform(jax.random.key(1), (3, groups, 5))
  weights = weights.at[:, :, 2].set(0.0)
  return x, weights, BANK.init(jax.random.key(2), x, weights)


def loop(params, x, weights):
  p, total = params["params"], 0.0
  for e in range(5):
    gate, up = (x @ p["gating_einsum"][e, i] for i in range(2))
    y = (jax.nn.gelu(gate, approximate=True) * up) @ p["linear"][e]
    total += weights[:, :, e, None] * y
  return total


def test_bank_is_the_weighted_sum_of_its_experts():
  for groups in (1, 4):  # one choice per plan, one per token
    x, weights, params = tiny_bank(groups)
    np.testing.assert_allclose(BANK.apply(params, x, weights),
                               loop(params, x, weights), atol=1e-5)


def test_relabelling_experts_changes_nothing():
  x, weights, params = tiny_bank()
  order = jnp.array([3, 0, 4, 1, 2])
  moved = jax.tree.map(lambda p: p[order], params)       # leaves lead with E
  np.testing.assert_allclose(BANK.apply(params, x, weights),
                             BANK.apply(moved, x, weights[..., order]),
                             atol=1e-5)


def test_an_expert_nobody_chose_has_no_gradient_at_all():
  x, weights, params = tiny_bank()
  grads = jax.grad(lambda p: (BANK.apply(p, x, weights) ** 2).sum())(params)
  for leaf in jax.tree.leaves(grads):
    assert not leaf[2].any()
    assert all(leaf[e].any() for e in (0, 1, 3, 4))


def test_one_plan_reads_its_own_experts_alone():
  x, weights, params = tiny_bank()
  few = weights.at[:, :, 4].set(0.0)                     # 3 of 5 have a share
  for b in range(3):
    np.testing.assert_allclose(
        BANK.apply(params, x[b:b + 1], few[b:b + 1], 3),
        BANK.apply(params, x, few)[b:b + 1], atol=1e-6)
  products = lambda active: str(jax.make_jaxpr(
      lambda: BANK.apply(params, x[:1], few[:1], active))())
  assert "f32[5,1,4,7]" in products(0)                   # hidden of all five
  assert "f32[5,1,4,7]" not in products(3)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kept", [1, 3, 4])
@pytest.mark.parametrize("block", [1, 5, 64])
def test_blocks_of_tokens_that_want_one_expert(groups, kept, block,
                                               monkeypatch):
  """Whatever is chosen, also by all tokens alike, and however few a block."""
  monkeypatch.setattr(experts, "BLOCK", block)
  x, weights, params = tiny_bank(groups)
  few = jnp.where(weights >= jnp.sort(weights)[..., -kept, None], weights, 0)
  for chosen in (few, jnp.broadcast_to(few[:1, :1], few.shape)):
    got = experts.grouped(x, chosen, params["params"]["gating_einsum"],
                          params["params"]["linear"], active=kept,
                          dtype=jnp.float32)
    np.testing.assert_allclose(got, loop(params, x, chosen), atol=1e-5)


def test_many_tokens_are_grouped_in_a_sampler_alone(monkeypatch):
  monkeypatch.setattr(experts, "BLOCK", 6)
  x, weights, params = tiny_bank()
  program = lambda *args: str(jax.make_jaxpr(
      lambda: BANK.apply(params, *args))())
  assert "while" in program(x, weights, 4)
  assert "while" not in program(x, weights)              # as in training
  assert "while" not in program(x[:2], weights[:2], 4)   # two blocks' tokens
  np.testing.assert_allclose(BANK.apply(params, x, weights, 4),
                             BANK.apply(params, x, weights), atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_experts_side_by_side_have_the_gradients_of_all_apart(groups):
  """As training on a CPU computes them: 12 tokens of 6 numbers are many."""
  x, weights, params = tiny_bank(groups)
  bank = lambda *args: (BANK.apply(*args) ** 2).sum()
  apart = lambda params, x, weights: (loop(params, x, weights) ** 2).sum()
  got = jax.grad(bank, argnums=(0, 1, 2))(params, x, weights)
  want = jax.grad(apart, argnums=(0, 1, 2))(params, x, weights)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               got, want)
  wide = f"f32[3,4,{5 * 7}]"                             # one hidden layer
  program = lambda count: str(jax.make_jaxpr(lambda: BANK.apply(
      params, x[:count], weights[:count]))())
  assert wide in program(3)
  assert "f32[1,4,35]" not in program(1)                 # 4 tokens are few


def test_several_plans_or_token_routing_take_all_experts():
  for groups, samples in ((1, 3), (4, 1)):
    x, weights, params = tiny_bank(groups)
    some = x[:samples], weights[:samples]
    np.testing.assert_array_equal(BANK.apply(params, *some, 4),
                                  BANK.apply(params, *some))
