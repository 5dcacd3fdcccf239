"""The step: same numbers on every mesh, with microbatches, after a NaN.

What does not depend on the model is tested on a linear one, which compiles in
no time.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline import spec
from drivemoe_jax import flow, optim, sharding, step
from drivemoe_jax.models import drivemoe


def make_model(**changes):
  return drivemoe.DriveMoE(**dict(
      vision_width=32, vision_layers=1, vision_heads=2, vision_mlp=32,
      image_size=14, patch_size=7, vlm_width=32, vlm_mlp=64, expert_width=16,
      expert_mlp=32, layers=2, heads=2, kv_heads=1, head_dim=8, moe_layers=1,
      skill_experts=7, shared_experts=1, top_k=3, vocab_size=16, text_len=4,
      camera_hidden=8, camera_dropout=0.0, camera_heads=2) | changes)


def make_batch(size=16, seed=0):
  return spec.fake_batch(size, seed=seed, prompt_ids=(2, 5, 6), text_len=4,
                         image_size=14)


def objective(**changes):
  return dict(camera_choice="label", skill_choice="router",
              weights={"action": 1.0, "camera": 10.0, "skill": 10.0},
              alphas={"camera": spec.alphas(spec.CAMERA_COUNTS),
                      "skill": spec.alphas(spec.SKILL_COUNTS)}) | changes


def rate(update):
  return optim.learning_rate(update, max_lr=1e-2, min_lr=1e-4,
                             warmup_updates=2, cycle_updates=50)


def make_mesh(sizes):
  return sharding.make_mesh(dict(zip(sharding.AXES, sizes)))


class Run:
  """A jitted step on a mesh, starting from given parameters."""

  def __init__(self, model, loss, params, sizes=(1, 1, 1), **kwargs):
    self.mesh = make_mesh(sizes)
    tx = optim.make(params, action_lr=rate, vlm_lr=rate)
    self.state = step.state_from(params, tx, self.mesh)
    shardings = jax.tree.map(lambda x: x.sharding, self.state)
    self.step = step.jit_train_step(
        step.make_train_step(model, loss, tx, rate,
                             shardings=shardings.params, **kwargs),
        self.mesh, shardings)

  def __call__(self, *batches):
    """Metrics of one update per batch."""
    log = []
    with sharding.activate(self.mesh):
      for batch in batches:
        self.state, metrics = self.step(
            self.state, step.put_batch(batch, self.mesh), jax.random.key(7))
        log.append(jax.device_get(metrics))
    return log


# A linear model of the plan: action ~ kernel * goal. Its second parameter is
# half frozen (optim.LAST_VALUE).


def linear_params():
  return {"io": {"kernel": jnp.array([0.5, -0.5])},
          "llm": {"layers": {"last": {"attn": {"kv_einsum": {
              "w": jnp.ones((1, 2, 1, 4, 1))}}}}}}


def linear_loss(params, batch, key):
  del key
  value = params["llm"]["layers"]["last"]["attn"]["kv_einsum"]["w"].sum()
  guess = params["io"]["kernel"] * batch["goal"] * value   # [B,2]
  loss = jnp.mean((batch["noise"] - guess[:, None]) ** 2)
  return loss, {"loss": loss, "noise": batch["noise"].mean()}


def linear_run(sizes=(1, 1, 1), **kwargs):
  return Run(make_model(), linear_loss, linear_params(), sizes, **kwargs)


def close(a, b, **kwargs):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


@pytest.mark.parametrize("sizes, parts", [
    ((1, 1, 1), 4), ((2, 2, 2), 1), ((2, 2, 2), 2)])
def test_microbatches_and_meshes_change_nothing(sizes, parts):
  batches = [make_batch(seed=i) for i in range(3)]
  one, many = linear_run(), linear_run(sizes, microbatches=parts)
  close(many(*batches), one(*batches), rtol=1e-5, atol=1e-7)
  close(many.state.params, one.state.params, rtol=1e-5)


def test_each_device_keeps_its_rows_when_a_batch_is_cut():
  got = step.split_batch({"x": jnp.arange(16)}, 2)["x"]
  # 4 devices hold rows 0-3, 4-7, 8-11, 12-15; each gives two to either part.
  np.testing.assert_array_equal(got[0].reshape(4, 2) // 4,
                                np.arange(4)[:, None] * [1, 1])
  np.testing.assert_array_equal(np.sort(got.ravel()), np.arange(16))


def test_the_state_is_donated():
  run = linear_run()
  old = run.state
  run(make_batch())
  assert all(x.is_deleted() for x in jax.tree.leaves(old.params))


def test_keys_follow_the_seed_and_the_step():
  first, second = linear_run()(make_batch(), make_batch())
  assert first["noise"] != second["noise"]
  again, _ = linear_run()(make_batch(), make_batch())
  assert first["noise"] == again["noise"]


def test_the_log_says_rate_and_norm_of_what_is_trained():
  run = linear_run()
  params = run.state.params
  batch = make_batch()
  key, _ = jax.random.split(jax.random.fold_in(jax.random.key(7), 0))
  full = {"goal": batch["goal"]} | step.draw(key, 16, make_model(), "beta")
  grads = jax.grad(lambda p: linear_loss(p, full, None)[0])(params)
  value = grads["llm"]["layers"]["last"]["attn"]["kv_einsum"]["w"]
  whole, frozen = optax.tree.norm(grads) ** 2, jnp.sum(value[:, 1] ** 2)
  assert frozen > 0
  log = run(batch, batch, batch)
  np.testing.assert_allclose(log[0]["grad_norm"] ** 2, whole - frozen,
                             rtol=1e-4)
  np.testing.assert_allclose([m["lr"] for m in log], [1e-4, 1e-4, 5.05e-3],
                             rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_non_finite_update_changes_nothing_but_the_counters(parts):
  run = linear_run(microbatches=parts)
  run(make_batch())
  before = jax.device_get(run.state)
  poison = make_batch(seed=1)
  poison["goal"][0, 0] = np.nan
  first, second = run(poison, poison)
  assert (first["skipped"], first["skipped_in_a_row"]) == (1, 1)
  assert (second["skipped"], second["skipped_in_a_row"]) == (2, 2)
  after = jax.device_get(run.state)
  close(after.params, before.params, rtol=0)
  close(after.opt_state, before.opt_state, rtol=0)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.opt_state))
  assert after.step == 3
  good, = run(make_batch(seed=2))
  assert (good["skipped"], good["skipped_in_a_row"]) == (2, 0)
  # The schedule counts the updates that happened: this one is the second.
  np.testing.assert_allclose(good["lr"], 1e-4, rtol=1e-6)


def test_an_infinite_gradient_of_a_finite_loss_is_skipped_too():
  def loss(params, batch, key):
    del batch, key
    value = jnp.sum(jnp.sqrt(jnp.abs(params["io"]["kernel"])))
    return value, {"loss": value}

  params = linear_params()
  params["io"]["kernel"] = jnp.zeros(2)
  run = Run(make_model(), loss, params)
  metrics, = run(make_batch())
  assert np.isfinite(metrics["loss"]) and metrics["skipped"] == 1


@functools.cache
def initial_params():
  state = step.init_state(
      make_model(), optim.make(step.param_shapes(make_model()), action_lr=rate,
                               vlm_lr=rate), make_mesh((1, 4, 2)), seed=3)
  kernel = state.params["llm"]["layers"]["dense"]["mlp"]["linear"]
  assert not kernel.sharding.is_fully_replicated
  return jax.device_get(state.params)


@functools.cache
def run_model(sizes=(1, 1, 1), parts=1, **changes):
  """Three updates of the real model, dropout included: run and its log."""
  model = make_model(**{"camera_dropout": 0.1} | changes)
  loss = step.make_loss(model, **objective())
  run = Run(model, loss, initial_params(), sizes, microbatches=parts)
  return run, run(*(make_batch(seed=i) for i in range(3)))


def test_the_model_learns():
  run, log = run_model()
  for m in log:
    np.testing.assert_allclose(
        m["loss"], m["loss_action"] + m["loss_camera_weighted"]
        + m["loss_skill_weighted"], rtol=1e-6)
    np.testing.assert_allclose(m["loss_camera_weighted"],
                               10 * m["loss_camera"], rtol=1e-6)
  last = run(*[make_batch()] * 10)[-1]
  assert last["loss"] < 0.8 * log[0]["loss"]


@pytest.mark.parametrize("sizes, parts", [((2, 2, 2), 2)] + [
    pytest.param(*case, marks=pytest.mark.slow) for case in [
        ((1, 1, 1), 2), ((8, 1, 1), 1), ((1, 4, 2), 1), ((1, 1, 8), 1)]])
def test_every_mesh_gives_the_same_losses(sizes, parts):
  _, want = run_model()
  run, got = run_model(sizes, parts)
  close(got, want, rtol=1e-4, atol=1e-6)
  if sizes[1] > 1:  # moments lie in shards as the weights do
    large = [x for x in jax.tree.leaves(run.state.opt_state) if x.size > 2000]
    assert large and all(not x.sharding.is_fully_replicated for x in large)


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["trajectory", "token"])
@pytest.mark.parametrize("sizes, parts", [((2, 2, 2), 2), ((1, 2, 4), 1)])
def test_every_exchange_gives_the_same_losses(sizes, parts, routing):
  _, want = run_model(routing=routing, remat="full")
  for exchange in ("constraint", "shard_map"):
    _, got = run_model(sizes, parts, routing=routing, remat="full",
                       expert_exchange=exchange)
    close(got, want, rtol=1e-4, atol=1e-6)


def test_constraints_are_live_only_under_the_mesh():
  run, _ = run_model((2, 2, 2), 2)
  batch = step.put_batch(make_batch(), run.mesh)
  lower = lambda: run.step.lower(run.state, batch, jax.random.key(0)).as_text()
  with sharding.activate(run.mesh):
    live = lower().count("sdy.sharding_constraint")
  jax.clear_caches()
  dead = lower().count("sdy.sharding_constraint")
  assert live > dead + 5, (live, dead)


def metrics_of(batch, model, **changes):
  loss = step.make_loss(model, **objective(**changes))
  draws = step.draw(jax.random.key(0), 4, model, "uniform")
  batch = {k: step.narrow(v) for k, v in batch.items()} | draws
  return jax.eval_shape(loss, step.param_shapes(model), batch,
                        jax.random.key(0))[1]


def test_absent_labels_and_routers_drop_their_terms():
  batch = make_batch(4)
  assert {"loss_camera", "loss_skill"} <= set(metrics_of(batch, make_model()))
  pi0 = metrics_of(batch, make_model(moe_layers=0, view=()))
  always = {"loss", "loss_action", "action_outside", "estimate_outside"}
  assert set(pi0) == always
  del batch["camera"], batch["skill"]
  bare = metrics_of(batch, make_model(), camera_choice="straight_through")
  work = {"expert_load", "expert_weight", "routing_entropy", "skill_share",
          "camera_share", "camera_entropy"}
  assert set(bare) == always | work


def test_what_lies_beyond_the_clip_is_counted():
  class Straight:
    camera_dropout = 0.0

    def apply(self, _, *, noisy_action, time, **kwargs):
      del kwargs  # a velocity that ends at 2 whatever it starts from
      velocity = (2.0 - noisy_action) / (1.0 - time)[:, None, None]
      return velocity, {"camera_logits": None, "skill_logits": None}

  batch = make_batch(4)
  batch["action"] = np.tile(np.float32([0.5, -1.5]), (4, 10, 1))
  batch |= {k: np.asarray(v) for k, v in step.draw(
      jax.random.key(0), 4, make_model(), "beta").items()}
  for clip, data, model in ((1.0, 0.5, 1.0), (1.6, 0.0, 1.0), (2.1, 0.0, 0.0)):
    _, metrics = step.make_loss(Straight(), **objective(), clip=clip)(
        {}, batch, jax.random.key(0))
    assert metrics["action_outside"] == data
    assert metrics["estimate_outside"] == model


def test_camera_dropout_is_drawn_from_its_key():
  model = make_model(camera_dropout=0.5)
  batch = {k: step.narrow(v) for k, v in make_batch(4).items()}
  batch |= step.draw(jax.random.key(0), 4, model, "beta")
  loss = jax.jit(step.make_loss(model, **objective()))
  camera = lambda i: loss(initial_params(), batch,
                          jax.random.key(i))[1]["loss_camera"]
  assert camera(0) == camera(0) != camera(1)


def test_perfect_velocity_gives_zero_loss():
  # The loss compares with the flow's own target: feed it back as the output.
  class Echo:
    camera_dropout = 0.0

    def apply(self, _, *, noisy_action, time, **kwargs):
      del noisy_action, time, kwargs
      return target, {"camera_logits": None, "skill_logits": None}

  batch = make_batch(4)
  batch |= {k: np.asarray(v) for k, v in step.draw(
      jax.random.key(0), 4, make_model(), "beta").items()}
  target = flow.target_velocity(batch["noise"], batch["action"])
  loss = step.make_loss(Echo(), **objective())
  assert loss({}, batch, jax.random.key(0))[0] == 0.0
