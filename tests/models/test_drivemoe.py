"""The whole model: sizes, views, choices, caches, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import spec
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import predict
from drivemoe_jax.models import drivemoe, sampling
from launch.bench import jax_sides
from tests.models import tiny

FULL = dict(
    vision_width=1152, vision_layers=27, vision_heads=16, vision_mlp=4304,
    image_size=224, patch_size=14, vlm_width=2048, vlm_mlp=16384,
    expert_width=1024, expert_mlp=4096, layers=18, heads=8, kv_heads=1,
    head_dim=256, moe_layers=4, skill_experts=7, shared_experts=1, top_k=3,
    vocab_size=257216, text_len=20)


@functools.cache
def tree(**changes):
  """A tiny model, its parameters and its inputs."""
  m = tiny.model(**changes)
  return m, tiny.init(m), tiny.inputs(m)


@functools.cache
def forward(model, **static):
  return steps.jit_once(
      lambda p, kw: model.apply({"params": p}, **static, **kw))


@functools.cache
def gradients(model):
  return steps.jit_once(jax.grad(
      lambda p, kw: (model.apply({"params": p}, **kw)[0] ** 2).sum()))


def velocity(model, params, kw, **static):
  return forward(model, **static)(params, kw)[0]


@pytest.mark.parametrize("changes, want", [
    ({}, 3_678_807_160), (dict(moe_layers=0, view=()), 3_238_093_554),
    (dict(adaptive="adaLN"), 3_701_875_832),
    (dict(adaptive="adaLN-Zero"), 3_713_455_224)])
def test_full_size_has_the_released_number_of_parameters(changes, want):
  m = drivemoe.DriveMoE(**FULL | changes)
  kw = jax.eval_shape(lambda: dict(
      images=jnp.zeros((1, 7, 224, 224, 3), jnp.uint8),
      text=jnp.zeros((1, 20), jnp.int32), proprio=jnp.zeros((1, 5, 10)),
      goal=jnp.zeros((1, 2)), noisy_action=jnp.zeros((1, 10, 2)),
      time=jnp.zeros((1,))))
  shapes = jax.eval_shape(lambda kw: m.init(jax.random.key(0), **kw), kw)
  assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == want


@pytest.mark.parametrize("view, tokens", [
    ((), 2 * 256), ((0,), 3 * 256), ((0, 1), 4 * 256), ((0, 1, 2), 5 * 256),
    ((0, 1, 2, 4), 6 * 256), ("dynamic", 3 * 256)])
def test_tokens_follow_the_number_of_views(view, tokens):
  assert drivemoe.DriveMoE(**FULL | dict(view=view)).tokens == tokens + 20


def test_the_model_counts_images_as_the_pipeline_does():
  assert drivemoe.FRONTS == spec.FRONTS
  assert len(spec.IMAGES) == spec.FRONTS + drivemoe.DriveMoE.num_views


def test_only_the_labelled_view_is_seen():
  m, params, kw = tree()
  seen = velocity(m, params, kw, camera_choice="label")
  rest = jnp.arange(m.num_views)[None] != kw["camera"][:, None]
  mask = jnp.pad(rest, ((0, 0), (2, 0)))[..., None, None, None]
  blind = kw | {"images": jnp.where(mask, 0, kw["images"])}
  np.testing.assert_array_equal(
      seen, velocity(m, params, blind, camera_choice="label"))
  dark = kw | {"images": jnp.where(jnp.pad(~rest, ((0, 0), (2, 0)))[
      ..., None, None, None], 0, kw["images"])}
  assert jnp.abs(velocity(m, params, dark, camera_choice="label")
                 - seen).max() > 1e-3


def test_argmax_equals_the_label_that_it_names():
  m, params, kw = tree()
  free, out = forward(m, camera_choice="argmax")(params, kw)
  label = out["camera_logits"].argmax(-1)
  forced = velocity(m, params, kw | {"camera": label}, camera_choice="label")
  np.testing.assert_allclose(free, forced, atol=2e-6)


def test_strong_noise_samples_its_view():
  # Noise names the router's favourite: sample, embedding and argmax agree.
  m, params, kw = tree()
  free, out = forward(m, camera_choice="argmax")(params, kw)
  noise = 50.0 * jax.nn.one_hot(out["camera_logits"].argmax(-1), m.num_views)
  got = velocity(m, params, kw | {"gumbel": noise},
                 camera_choice="straight_through")
  np.testing.assert_allclose(got, free, atol=2e-6)


def test_view_embedding_follows_the_argmax_or_the_sample():
  m, params, kw = tree()
  logits = forward(m, camera_choice="argmax")(params, kw)[1]["camera_logits"]
  other = (logits.argmax(-1) + 1) % m.num_views
  kw = kw | {"gumbel": 50.0 * jax.nn.one_hot(other, m.num_views),
             "camera": other}
  by_label = velocity(m, params, kw, camera_choice="label")
  run = lambda index: velocity(m.clone(view_embedding_index=index), params, kw,
                               camera_choice="straight_through")
  np.testing.assert_allclose(run("sample"), by_label, atol=1e-5)
  assert jnp.abs(run("argmax") - by_label).max() > 1e-3


def test_a_fixed_view_is_a_label_without_a_router():
  m, params, kw = tree()
  fixed = m.clone(view=(1,))
  kept = {k: v for k, v in params.items() if k != "router"}
  kept["router"] = {"skill": params["router"]["skill"]}
  want = velocity(m, params, kw | {"camera": jnp.full(3, 1)},
                  camera_choice="label")
  np.testing.assert_allclose(velocity(fixed, kept, kw), want, atol=2e-6)


def test_unused_images_of_fixed_views_do_not_matter():
  m, params, kw = tree(view=(0, 2))
  blind = kw | {"images": kw["images"].at[:, 3].set(0)}
  np.testing.assert_array_equal(velocity(m, params, kw),
                                velocity(m, params, blind))


def test_routing_levels_share_parameters_and_differ_in_effect():
  m, params, kw = tree()
  token = m.clone(routing="token")
  shapes = lambda m: jax.tree.map(jnp.shape, jax.eval_shape(
      lambda: m.init(jax.random.key(0), **kw)["params"]))
  assert shapes(m) == shapes(token)
  one, out = forward(token)(params, kw)
  assert out["skill_logits"].shape == (3, m.horizon, m.skill_experts)
  assert jnp.abs(one - velocity(m, params, kw)).max() > 1e-4
  # The router loss of the token mean starts from the same logits.
  whole = forward(m)(params, kw)[1]["skill_logits"]
  np.testing.assert_allclose(out["skill_logits"].mean(1), whole[:, 0],
                             atol=1e-4)


def test_skill_label_replaces_the_router():
  m, params, kw = tree()
  _, out = forward(m, skill_choice="label")(params, kw)
  np.testing.assert_array_equal(out["skill_weights"][:, 0, :-1],
                                jax.nn.one_hot(kw["skill"], m.skill_experts))
  # Twisting an expert that no label names changes nothing.
  unused = jax.tree.map(lambda x: x, params)
  for group in ("moe", "last"):
    bank = unused["expert"]["action"]["layers"][group]
    bank["moe"] = {k: x.at[:, 4].add(1.0) for k, x in bank["moe"].items()}
  assert (kw["skill"] != 4).all()
  run = lambda p: velocity(m, p, kw, skill_choice="label")
  np.testing.assert_array_equal(run(params), run(unused))


@pytest.mark.parametrize("changes", [
    {}, dict(moe_layers=0, view=()), dict(moe_layers=1, routing="token"),
    dict(adaptive="adaLN-Zero")], ids=str)
def test_cached_sampling_equals_recomputing_everything(changes):
  m, params, kw = tree(**changes)
  keep = {k: kw[k] for k in ("images", "text", "proprio", "goal")}
  noise = kw["noisy_action"]
  run = lambda cached: steps.jit_once(functools.partial(
      sampling.sample, m, steps=3, clip=9.0, cached=cached))(
          params, noise=noise, **keep)
  (fast, out), (slow, _) = run(None), run(())
  np.testing.assert_allclose(fast, slow, atol=1e-5)
  assert out["points"].shape == (4, *noise.shape)
  assert jnp.abs(fast - noise).max() > 1e-2


def test_a_single_plan_is_the_one_it_would_be_in_company():
  m, params, kw = tree()
  keep = {k: kw[k] for k in ("images", "text", "proprio", "goal")}
  run = lambda rows: steps.jit_once(functools.partial(
      sampling.sample, m, steps=2, clip=9.0))(
          params, noise=kw["noisy_action"][:rows],
          **{k: v[:rows] for k, v in keep.items()})[0]
  np.testing.assert_allclose(run(1), run(3)[:1], atol=1e-5)


def test_first_sampling_step_is_the_velocity_of_training():
  m, params, kw = tree()
  keep = {k: kw[k] for k in ("images", "text", "proprio", "goal")}
  _, out = steps.jit_once(functools.partial(sampling.sample, m, steps=2))(
      params, noise=kw["noisy_action"], **keep)
  want = velocity(m, params, kw | {"time": jnp.zeros(3)})
  np.testing.assert_allclose(out["velocities"][0], want, atol=1e-5)


def test_plans_are_clipped_at_the_end_only():
  m, params, kw = tree()
  keep = {k: kw[k] for k in ("images", "text", "proprio", "goal")}
  plan, out = steps.jit_once(functools.partial(
      sampling.sample, m, steps=2, clip=0.1))(
          params, noise=kw["noisy_action"], **keep)
  assert jnp.abs(plan).max() <= 0.1 < jnp.abs(out["points"][-1]).max()


def test_padding_of_the_prompt_changes_nothing_but_its_ids_do():
  m, params, kw = tree()
  longer = m.clone(text_len=m.text_len + 2)
  padded = kw | {"text": jnp.pad(kw["text"], ((0, 0), (0, 2)))}
  want = velocity(m, params, kw)
  np.testing.assert_allclose(velocity(longer, params, padded), want, atol=2e-6)
  other = kw | {"text": kw["text"].at[:, 1].set(9)}
  assert jnp.abs(velocity(m, params, other) - want).max() > 1e-4


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_no_gradient(remat):
  m, params, kw = tree(view=(1,), vision_layers=1, layers=3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-4 * float(jnp.abs(b).max()) + 1e-6),
      gradients(m.clone(remat=remat))(params, kw), gradients(m)(params, kw))


def test_unrolled_layers_are_the_layers_of_the_loop():
  model, params, kw = tree()
  kw = {k: v for k, v in kw.items() if k in predict.INPUTS}
  noise = jax.random.normal(jax.random.key(0), (
      len(kw["goal"]), model.horizon, model.action_dim))

  def sample(model, params):
    return sampling.sample(model, params, noise=noise, steps=2, **kw)[0]

  want = steps.jit_once(lambda p: sample(model, p))(params)
  apart = jax_sides.layers_apart(params)
  assert jax.tree.structure(apart) != jax.tree.structure(params)
  got = steps.jit_once(lambda p: sample(
      model.clone(unroll=True), jax_sides.layers_together(p)))(apart)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_float32_parameters_and_stays_near():
  m, params, kw = tree()
  want = velocity(m, params, kw, camera_choice="label")
  low = m.clone(dtype=jnp.bfloat16)
  got, out = forward(low, camera_choice="label")(params, kw)
  assert got.dtype == out["camera_logits"].dtype == jnp.float32
  shapes = jax.eval_shape(lambda: low.init(jax.random.key(0), **kw))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  error = jnp.abs(got - want).max() / jnp.abs(want).max()
  assert 1e-5 < error < 0.1


def test_dropout_acts_on_the_camera_router_alone():
  m, params, kw = tree()
  keys = lambda seed: {"dropout": jax.random.split(jax.random.key(seed), 3)}
  run = lambda more: forward(m, camera_choice="label")(params, kw | more)
  (a, on_a), (b, on_b), (c, off) = run(keys(0)), run(keys(1)), run({})
  np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(a, c)
  assert jnp.abs(on_a["camera_logits"] - on_b["camera_logits"]).max() > 1e-4
  assert jnp.abs(on_a["camera_logits"] - off["camera_logits"]).max() > 1e-4


@pytest.mark.parametrize("changes, message", [
    (dict(image_size=17), "image_size 17 is no multiple of patch_size 8"),
    (dict(vision_stem="conv", patch_size=2),
     "patch_size 2 and vision_width 12 must be multiples of 4"),
    (dict(vision_stem="conv", vision_width=10), "vision_width 10 must be"),
    (dict(vision_stem="cnn"), "vision_stem 'cnn'"),
    (dict(layers=1, moe_layers=0), "layers 1: must be 2 or more"),
    (dict(vision_heads=5), "vision_width 12 is no multiple of vision_heads 5"),
    (dict(head_dim=7), "head_dim 7: must be even"),
    (dict(expert_width=9), "expert_width 9: must be even"),
    (dict(adaptive="adaLN", time_width=9), "time_width 9: must be even"),
    (dict(top_k=6), "top_k 6 must lie in 1..skill_experts = 5"),
    (dict(kv_heads=3), "heads 4 is no multiple of kv_heads 3"),
    (dict(camera_heads=7), "vlm_width 24 is no multiple of camera_heads 7"),
    (dict(softcap=100.0), "softcap 100.0 must lie in 0..80.0"),
    (dict(remat="some"), "remat .some.; known"),
    (dict(moe_layers=4), "moe_layers 4 must lie in 0..3"),
    (dict(routing="both"), "routing 'both'"),
    (dict(adaptive="FiLM"), "adaptive 'FiLM'")], ids=str)
def test_contradicting_sizes_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    tiny.model(**changes).check()


@pytest.mark.parametrize("static, missing", [
    (dict(camera_choice="label"), "camera"),
    (dict(camera_choice="straight_through"), "gumbel"),
    (dict(skill_choice="label"), "skill"),
    (dict(camera_choice="best"), "known"),
    (dict(skill_choice="best"), "known")])
def test_choices_name_what_they_lack(static, missing):
  m, params, kw = tree()
  kw = {k: v for k, v in kw.items() if k != missing}
  with pytest.raises(ValueError, match=missing):
    jax.eval_shape(lambda p: m.apply({"params": p}, **static, **kw), params)
