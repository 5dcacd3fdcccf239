"""Schedule, groups, clip and AdamW against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drivemoe_jax import optim

STAGE1 = dict(max_lr=5e-5, min_lr=1e-8, warmup_updates=200,
              cycle_updates=45000)


def tree(fill=np.ones):
  """One leaf of every kind, 3 layers, 2 skill experts and 1 shared."""
  return {
      "img": {"pos_embedding": fill((1, 4, 3))},
      "llm": {
          "embedder": {"input_embedding": fill((7, 3))},
          "layers": {"last": {
              "attn": {"kv_einsum": {"w": fill((1, 2, 1, 3, 2))},
                       "attn_vec_einsum": {"w": fill((1, 1, 2, 3))}},
              "mlp": {"linear": fill((1, 5, 3))},
              "pre_ffw_norm": {"scale": fill((1, 3))},
              "pre_attention_norm": {"scale": fill((1, 3))}}}},
      "expert": {"action": {"layers": {"last": {"moe": {
          "linear": fill((1, 3, 4, 2))}}}}},
      "router": {"skill": {"kernel": fill((2, 2))},
                 "camera": {"query": fill((1, 1, 3))}},
      "view_embedding": fill((5, 3)),
      "io": {"action_out": {"kernel": fill((2, 2))}},
  }


def random_tree(seed):
  rng = np.random.default_rng(seed)
  return tree(lambda shape: rng.normal(size=shape).astype(np.float32))


def make(params, lr=0.1, **kwargs):
  return optim.make(params, action_lr=lr, vlm_lr=lr, **kwargs)


def run(tx, params, grads):
  """Parameters after one update per gradient tree."""
  state = tx.init(params)

  @jax.jit
  def step(params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for g in grads:
    params, state = step(params, state, g)
  return params, state


def test_schedule_takes_the_released_values():
  lr = lambda k: optim.learning_rate(k, **STAGE1)
  assert lr(0) == lr(1) == 1e-8
  np.testing.assert_allclose(lr(2), 2.5995e-7, rtol=1e-12)
  np.testing.assert_allclose(lr(201), 5e-5, rtol=1e-12)
  np.testing.assert_allclose(lr(21119), 2.760e-5, rtol=2e-4)
  stage2 = STAGE1 | dict(max_lr=5e-6, cycle_updates=22500)
  np.testing.assert_allclose(optim.learning_rate(10559, **stage2), 2.783e-6,
                             rtol=2e-4)
  pi0 = STAGE1 | dict(cycle_updates=10**7)
  np.testing.assert_allclose(optim.learning_rate(2639, **pi0), 5e-5, rtol=1e-5)


def test_schedule_restarts_one_update_after_its_cycle():
  short = dict(max_lr=1.0, min_lr=0.0, warmup_updates=2, cycle_updates=6)
  cycle = [0.0, 0.5, 1.0, *(0.5 + 0.5 * np.cos(np.pi * np.arange(1, 4) / 4))]
  got = [float(optim.learning_rate(k, **short)) for k in range(13)]
  np.testing.assert_allclose(got, [0.0, *cycle, *cycle], atol=1e-12)


def test_schedule_is_the_same_traced():
  traced = jax.jit(lambda k: optim.learning_rate(k, **STAGE1))
  for k in (0, 1, 2, 150, 201, 9000, 45001):
    np.testing.assert_allclose(traced(jnp.int32(k)),
                               optim.learning_rate(k, **STAGE1), rtol=1e-5)


def test_a_parameter_without_a_group_is_named():
  with pytest.raises(ValueError, match="'extra/kernel'.*optim.GROUPS"):
    optim.groups({"extra": {"kernel": np.ones(2)}})


def test_groups_follow_the_release():
  got = optim.groups(tree())
  last = got["llm"]["layers"]["last"]
  assert got["llm"]["embedder"]["input_embedding"] == "frozen"
  assert last["mlp"]["linear"] == last["pre_ffw_norm"]["scale"] == "frozen"
  assert last["attn"]["attn_vec_einsum"]["w"] == "frozen"
  assert last["attn"]["kv_einsum"]["w"] == "vlm"
  assert got["router"]["camera"]["query"] == got["view_embedding"] == "vlm"
  assert got["router"]["skill"]["kernel"] == "action"
  assert got["io"]["action_out"]["kernel"] == "action"


def test_frozen_parts_stay_and_cost_no_state():
  params = random_tree(0)
  tx = make(params)
  after, state = run(tx, params, [random_tree(1), random_tree(2)])
  mask = optim.trainable_mask(params)
  moved = jax.tree.map(lambda a, b: np.asarray(a != b), after, params)
  jax.tree.map(lambda moved, mask: np.testing.assert_array_equal(
      moved, np.broadcast_to(mask, moved.shape)), moved, mask)
  held = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
  frozen = 7 * 3 + 1 * 2 * 3 + 5 * 3 + 3
  total = sum(x.size for x in jax.tree.leaves(params))
  # The frozen half of kv_einsum shares its leaf with the trained half.
  assert held == 2 * (total - frozen)
  assert optim.num_trainable(params) == total - frozen - 3 * 2
  assert optim.num_trainable(params, freeze_last_value=False) == total - frozen
  # Adam and the schedule count once per group: four int32.
  assert optim.optimiser_bytes(tx, params) in (4 * held + 8, 4 * held + 16)


def test_the_last_value_projection_is_trained_on_request():
  params = random_tree(0)
  w = lambda p: p["llm"]["layers"]["last"]["attn"]["kv_einsum"]["w"]
  kept, _ = run(make(params), params, [random_tree(1)])
  free, _ = run(make(params, freeze_last_value=False), params,
                [random_tree(1)])
  np.testing.assert_array_equal(w(kept)[:, 1], w(params)[:, 1])
  assert np.all(w(kept)[:, 0] != w(params)[:, 0])
  assert np.all(w(free) != w(params))


def test_adam_by_hand():
  # Two updates of one number, gradients 3 and -1, unclipped:
  # m1 = .3/.1 = 3, v1 = .009/.001 = 9; step 3/(3+eps) = 1
  # m2 = (.27-.1)/.19, v2 = (.008991+.001)/.001999
  params = random_tree(0)
  grads = [tree(lambda s, g=g: np.full(s, g, np.float32)) for g in (3., -1.)]
  after, _ = run(make(params, clip_norm=1e9), params, grads)
  step = 1.0 + (0.17 / 0.19) / np.sqrt(0.009991 / 0.001999)
  np.testing.assert_allclose(params["view_embedding"] - after["view_embedding"],
                             0.1 * step, rtol=1e-5)


def test_clip_is_joint_and_leaves_frozen_gradients_out():
  # Doubling an already clipped gradient everywhere changes nothing; an
  # enormous gradient on a frozen leaf does not either.
  params = random_tree(0)
  grads = jax.tree.map(lambda g: 100 * g, random_tree(1))
  double = jax.tree.map(lambda g: 2 * g, grads)
  double["llm"]["embedder"]["input_embedding"] *= 1e6
  double["llm"]["layers"]["last"]["attn"]["kv_einsum"]["w"][:, 1] *= 1e6
  tx = make(params, eps=1.0)  # a large epsilon makes Adam see the scale
  a, _ = run(tx, params, [grads])
  b, _ = run(tx, params, [double])
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)
  norm = float(optax.tree.norm(optim.trained_gradients(grads)))
  g = grads["view_embedding"] / (norm + 1e-6)
  np.testing.assert_allclose(params["view_embedding"] - a["view_embedding"],
                             0.1 * g / (np.abs(g) + 1.0), rtol=1e-3, atol=1e-7)


def test_a_small_gradient_is_not_enlarged():
  params = random_tree(0)
  grads = jax.tree.map(lambda g: 1e-4 * g, random_tree(1))
  a, _ = run(make(params, eps=1.0), params, [grads])
  b, _ = run(make(params, eps=1.0, clip_norm=1e9), params, [grads])
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_each_group_has_its_rate():
  params = random_tree(0)
  tx = optim.make(params, action_lr=0.0, vlm_lr=lambda k: 0.1 * (k + 1))
  after, _ = run(tx, params, [random_tree(1)])
  assert np.all(after["view_embedding"] != params["view_embedding"])
  jax.tree.map(np.testing.assert_array_equal, after["expert"],
               params["expert"])


def with_idle_expert(seed, expert):
  grads = random_tree(seed)
  grads["expert"]["action"]["layers"]["last"]["moe"]["linear"][:, expert] = 0
  return grads


def linear(params):
  return params["expert"]["action"]["layers"]["last"]["moe"]["linear"]


def test_an_idle_expert_drifts_unless_skipped():
  params = random_tree(0)
  grads = [random_tree(1), with_idle_expert(2, 1), random_tree(3)]
  first, _ = run(make(params), params, grads[:1])
  drifts, _ = run(make(params), params, grads[:2])
  stays, _ = run(make(params, skip_unused_experts=True), params, grads[:2])
  assert np.all(linear(drifts)[:, 1] != linear(first)[:, 1])
  np.testing.assert_allclose(linear(stays)[:, 1], linear(first)[:, 1],
                             rtol=1e-6)
  np.testing.assert_allclose(linear(stays)[:, 0], linear(drifts)[:, 0],
                             rtol=1e-6)


def test_a_skipped_expert_resumes_with_its_own_count():
  # Skipping the idle update equals never having had it.
  params = random_tree(0)
  make_skip = lambda: make(params, skip_unused_experts=True, clip_norm=1e9)
  a, _ = run(make_skip(), params,
             [random_tree(1), with_idle_expert(2, 1), random_tree(3)])
  b, _ = run(make_skip(), params, [random_tree(1), random_tree(3)])
  np.testing.assert_allclose(linear(a)[:, 1], linear(b)[:, 1], rtol=1e-6)
  assert np.all(linear(a)[:, 0] != linear(b)[:, 0])


def test_a_shared_expert_is_never_skipped():
  params = random_tree(0)
  grads = [random_tree(1), with_idle_expert(2, 2)]
  a, _ = run(make(params, skip_unused_experts=True), params, grads)
  b, _ = run(make(params), params, grads)
  np.testing.assert_allclose(linear(a)[:, 2], linear(b)[:, 2], rtol=1e-6)


def test_skipping_changes_nothing_while_all_experts_work():
  params = random_tree(0)
  grads = [random_tree(1), random_tree(2)]
  a, _ = run(make(params, skip_unused_experts=True), params, grads)
  b, _ = run(make(params), params, grads)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_bfloat16_first_moment_halves_its_memory_and_hardly_moves():
  params = random_tree(0)
  grads = [random_tree(1), random_tree(2)]
  small = make(params, first_moment_dtype="bfloat16")
  a, _ = run(small, params, grads)
  b, _ = run(make(params), params, grads)
  count = sum(x.size for x in jax.tree.leaves(run(small, params, [])[1])
              if x.ndim) // 2
  saved = (optim.optimiser_bytes(make(params), params)
           - optim.optimiser_bytes(small, params))
  assert saved == 2 * count
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), a, b)


def test_adafactor_keeps_rows_and_columns_only():
  shape = (1, 64, 48)
  params = {"io": {"action_out": {"kernel": np.ones(shape, np.float32)}}}
  tx = make(params, kind="adafactor")
  # momentum in bfloat16, rows, columns and small change
  size = 64 * 48
  assert 2 * size < optim.optimiser_bytes(tx, params) < 2 * size + 1000
  grads = {"io": {"action_out": {"kernel": np.random.default_rng(0).normal(
      size=shape).astype(np.float32)}}}
  after, _ = run(tx, params, [grads])
  step = np.asarray(after["io"]["action_out"]["kernel"]) - 1.0
  g = grads["io"]["action_out"]["kernel"]
  assert np.all(np.sign(step) == -np.sign(g))
  # The first momentum without debias is a tenth of a unit-RMS step.
  np.testing.assert_allclose(np.sqrt(np.mean(step ** 2)), 0.01, rtol=0.1)


@pytest.mark.parametrize("options", [
    dict(kind="sgd"), dict(kind="adafactor", skip_unused_experts=True)])
def test_unknown_options_are_refused(options):
  with pytest.raises(ValueError, match="adamw"):
    make(random_tree(0), **options)
