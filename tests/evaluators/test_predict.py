"""Sampling over batches: padding, order and batch size leave no trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators import predict
from tests.evaluators import worlds
from tests.models import tiny

SMALL = dict(layers=3, vision_layers=1)


def batches(model, size, count=5):
  """`count` windows of noise in padded batches of `size`."""
  rng = np.random.default_rng(0)
  side, normal = model.image_size, rng.standard_normal
  whole = {
      "images": rng.integers(
          0, 256, (count, 2 + model.num_views, side, side, 3), np.uint8),
      "text": np.tile(np.int32([2, 5, 6, 7, 0, 0]), (count, 1)),
      "proprio": normal((count, model.history, model.proprio_dim), np.float32),
      "goal": normal((count, 2), np.float32),
      "action": normal((count, model.horizon, 2), np.float32),
      "sample_id": np.arange(100, 100 + count)}
  for start in range(0, count, size):
    rows = np.minimum(np.arange(start, start + size), count - 1)
    yield {k: v[rows] for k, v in whole.items()} | {
        "valid": np.arange(start, start + size) < count}


def noise(**changes):
  """A model with random parameters, made without compiling any."""
  model, rng = tiny.model(**SMALL | changes), np.random.default_rng(0)
  shapes = jax.eval_shape(
      lambda: model.init(jax.random.key(0), **tiny.inputs(model)))["params"]
  return model, jax.tree.map(
      lambda p: 0.3 * rng.standard_normal(p.shape, np.float32), shapes)


def planned(size, seed=0, noise_scale=1.0, **changes):
  model, params = noise(**changes)
  sampler = predict.sampler(model, params, steps=2, seed=seed,
                            noise_scale=noise_scale)
  return predict.collect(sampler, batches(model, size))


def test_plans_do_not_depend_on_the_batch_size():
  whole, parts = planned(5, routing="token"), planned(2, routing="token")
  assert whole["sample_id"].tolist() == [100, 101, 102, 103, 104]
  assert set(whole) == set(parts)
  for name in whole:
    np.testing.assert_allclose(whole[name], parts[name], atol=2e-5)
  np.testing.assert_array_equal(
      whole["predicted_view"], whole["predicted_camera_logits"].argmax(-1))
  # One row of skill logits per window, although every token was routed.
  assert whole["predicted_skill_logits"].shape == (5, 5)


@pytest.mark.parametrize("adaptive", [None, "adaLN-Zero"])
def test_a_policy_keeps_wide_what_is_computed_wide(adaptive):
  model, params = noise(dtype=jnp.bfloat16, adaptive=adaptive)
  kept = predict.serving_weights(params, model.dtype)
  wide = {jax.tree_util.keystr(path, simple=True, separator="/")
          for path, x in jax.tree_util.tree_leaves_with_path(kept)
          if x.dtype == np.float32}
  float32 = ("router/", "view_embedding", "io/action_out/")
  norms = ("norm", "Norm", "attn_scale", "mlp_scale")
  assert wide == {
      n for n in _names(params)
      if n.startswith(float32) or any(part in n for part in norms)}
  same = predict.serving_weights(params, np.float32)
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, params)))


def _names(params):
  return [jax.tree_util.keystr(path, simple=True, separator="/")
          for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def test_routers_of_the_last_step_are_kept_and_tokens_averaged(monkeypatch):
  logits = np.arange(30.0).reshape(5, 2, 3)              # [B,S,E]
  cameras = np.eye(5)[[4, 2, 0, 1, 3]]

  def sample(model, params, *, noise, steps, clip, **inputs):
    assert set(inputs) == set(predict.INPUTS)
    return noise * 0 + clip + steps, {
        "camera_logits": 7 * cameras, "view": cameras, "skill_logits": logits}

  monkeypatch.setattr(predict.sampling, "sample", sample)
  model = tiny.model()
  got = predict.collect(predict.sampler(model, {}, steps=2, clip=0.5),
                        batches(model, 5))
  assert (got["predicted_action"] == 2.5).all()
  assert got["predicted_view"].tolist() == [4, 2, 0, 1, 3]
  np.testing.assert_allclose(got["predicted_skill_logits"], logits.mean(1))


def test_noise_belongs_to_the_window_and_the_seed():
  noise = lambda ids, seed: np.asarray(
      predict.window_noise(np.array(ids), (4, 2), seed))
  np.testing.assert_array_equal(noise([3, 7], 0), noise([7, 3], 0)[::-1])
  assert len(np.unique(np.stack([*noise([3, 7], 0), *noise([3, 7], 1)]))) == 32


def test_without_noise_a_plan_is_left_nothing_to_chance():
  plan = lambda seed, scale: planned(3, seed, scale)["predicted_action"]
  np.testing.assert_array_equal(plan(0, 0.0), plan(1, 0.0))
  assert np.abs(plan(0, 1.0) - plan(1, 1.0)).max() > 0.1
  # A little noise moves it a little, and the more of it the further.
  moved = [np.abs(plan(0, scale) - plan(0, 0.0)).max()
           for scale in (0.01, 0.1, 1.0)]
  assert 0 < moved[0] < moved[1] < moved[2]


def test_a_model_without_routers_reports_none():
  got = planned(5, moe_layers=0, view=())
  assert {k for k in got if k.startswith("predicted_")} == {"predicted_action"}


def test_exchanged_images_leave_everything_else():
  of = worlds.windows(routes=4, frames=5)
  load = worlds.loader(of, 8)
  ids = np.arange(len(of))
  order = np.roll(ids, 7)
  kept = predict.collect(worlds.blind, load(ids))
  mixed = list(predict.with_images_of(load(order), kept, order))
  valid = np.concatenate([b["valid"] for b in mixed])
  flat = {k: np.concatenate([b[k] for b in mixed])[valid] for k in mixed[0]}
  for name in predict.KEPT:
    np.testing.assert_array_equal(flat[name], kept[name])
  np.testing.assert_array_equal(
      flat["images"][:, 0, 0, 0, 0], of.route_index[order] % 2)


def test_a_plan_that_is_not_finite_names_its_window():
  of = worlds.windows(routes=2, frames=5)

  def broken(batch):
    plan = worlds.blind(batch)
    plan["action"][batch["sample_id"] == 6] = np.nan
    return plan

  with pytest.raises(errors.NumericsError, match="window 6 is not finite"):
    predict.collect(broken, worlds.loader(of, 4)(np.arange(10)))
