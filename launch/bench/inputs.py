"""What both sides of a race are given: weights in a file, arrays by seed.

Axes: B samples, I images, S image side, H waypoints, E experts, R groups.
"""

import numpy as np

from data_pipeline import prompt, spec
from drivemoe_jax.models import drivemoe

BLOCK = 4_000_037  # prime, so that no two rows of a weight are the same


def export(config, path):
  """Writes random weights of a config's model as an official file."""
  import jax

  from drivemoe_jax import build
  from drivemoe_jax import step as steps
  from drivemoe_jax.weights import read, write
  model = build.model(config)
  # One block again and again: billions of draws would take minutes.
  block = np.random.default_rng(0).standard_normal(BLOCK, np.float32)

  def leaf(shape):
    # Norm gains and biases off their start; products keep the scale.
    deviation = shape[-2] ** -0.5 if len(shape) > 2 else 0.1
    return np.resize((deviation * block).astype(config.model.dtype), shape)

  params = jax.tree.map(lambda x: leaf(x.shape), steps.param_shapes(model))
  counts = lambda found, classes: found or (1,) * len(classes)
  alphas = {
      "camera": spec.alphas(counts(config.loss.camera_counts, spec.Camera)),
      "skill": spec.alphas(counts(config.loss.skill_counts, spec.Skill))}
  write.write(path, read.Weights(
      params, alphas if model.moe_layers else {}, {}), dtype=config.model.dtype)


def seen(model, config, batch, rng):
  """{"images", "text", "proprio", "goal"} of noise."""
  text = np.tile(prompt.text_ids(config.prompt_ids, model.text_len),
                 (batch, 1)).astype(np.int32)
  normal = lambda *shape: rng.standard_normal((batch, *shape), np.float32)
  side, count = model.image_size, drivemoe.FRONTS + model.num_views
  return {"images": rng.integers(0, 256, (batch, count, side, side, 3),
                                 np.uint8),
          "text": text, "proprio": normal(model.history, model.proprio_dim),
          "goal": normal(2)}


def plan(model, config, batch, seed):
  """Inputs of a sampler, its noise among them."""
  rng = np.random.default_rng(seed)
  return seen(model, config, batch, rng) | {
      "noise": rng.standard_normal((batch, model.horizon, model.action_dim),
                                   np.float32)}


def update(model, config, batch, seed):
  """A training batch."""
  rng = np.random.default_rng(seed)
  return seen(model, config, batch, rng) | {
      "action": rng.standard_normal(
          (batch, model.horizon, model.action_dim), np.float32),
      "camera": rng.integers(0, model.num_views, batch).astype(np.int32),
      "skill": rng.integers(0, model.skill_experts, batch).astype(np.int32)}


def draws(model, config, batch, step):
  """{"time", "noise"} that our training step number `step` draws."""
  import jax

  from drivemoe_jax import step as steps
  key = jax.random.split(jax.random.fold_in(jax.random.key(0), step))[0]
  drawn = steps.draw(key, batch, model, config.flow.time_sampling,
                     config.flow.sigma_min)
  return {name: np.array(drawn[name]) for name in ("time", "noise")}


def tokens(model, batch, level, seed):
  """(tokens [B,H,A], router logits [B,R,E]) of an expert layer."""
  rng = np.random.default_rng(seed)
  groups = 1 if level == "trajectory" else model.horizon
  return (rng.standard_normal((batch, model.horizon, model.expert_width),
                              np.float32),
          rng.standard_normal((batch, groups, model.skill_experts),
                              np.float32))
