"""Runs a trained model over evaluation batches and gathers what it chose.

The noise of a window is folded from its id, so no number depends on the batch
size, the order or the number of devices. Axes: B batch, H steps, V candidate
views, S tokens that the skill router decided for, E skills, M windows.
"""

import re

import jax
import numpy as np

from data_pipeline import errors
from drivemoe_jax.models import sampling

INPUTS = ("images", "text", "proprio", "goal")
# Read in the compute dtype alone; adaptive norms compute in float32.
MATRICES = (r"img/(?!.*norm|.*Norm).*|llm/embedder/.*|"
            r"(llm|expert)/.*/(w|gating_einsum|linear)|"
            r"io/(action_in|proprio_in)/.*")
KEPT = ("sample_id", "proprio", "goal", "action")


def sampler(model, params, *, steps=10, clip=1.0, noise_scale=1.0, seed=0):
  """Returns batch -> {action [B,H,2] normalised, camera_logits, view, ...}.

  Args:
    model: a DriveMoE module.
    params: its parameters.
    steps: Euler steps of the flow.
    clip: bound on the normalised plan.
    noise_scale: of the noise that a plan starts from. 1 samples as the model
      was trained; less comes nearer to the middle of what it would sample, 0
      is one plan without chance.
    seed: of the noise; a window's noise depends on it and the window's id.

  The result lacks `camera_logits` [B,V] and `view` [B] for a model with fixed
  views, and `skill_logits` [B,E] (mean over tokens) for one without experts.
  """
  sample = sample_program(model, steps=steps, clip=clip,
                          noise_scale=noise_scale, seed=seed)

  def predict(batch):
    inputs = {name: batch[name] for name in INPUTS}
    ids = np.asarray(batch["sample_id"]).astype(np.uint32)
    return jax.device_get(sample(params, inputs, ids))

  return predict


def sample_program(model, *, steps, clip, noise_scale, seed):
  """Jitted (params, inputs, window ids [B]) -> what `sampler` tells of."""

  @jax.jit
  def sample(params, inputs, ids):
    noise = noise_scale * window_noise(
        ids, (model.horizon, model.action_dim), seed)
    action, out = sampling.sample(
        model, params, noise=noise, steps=steps, clip=clip, **inputs)  # [B,H,2]
    result = {"action": action}
    if out["camera_logits"] is not None:
      result["camera_logits"] = out["camera_logits"]     # [B,V]
      result["view"] = out["view"].argmax(-1)            # [B]
    if out["skill_logits"] is not None:
      result["skill_logits"] = out["skill_logits"].mean(1)  # [B,S,E] -> [B,E]
    return result

  return sample


def serving_weights(params, dtype):
  """The parameters as a policy keeps them: matrices in the compute dtype.

  A plan then reads half the bytes, and every product sees the same operands as
  before (a row of the token table is rounded once more). What is computed in
  float32 (norms, routers, the velocity) stays.
  """
  def leaf(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return x.astype(dtype) if re.fullmatch(MATRICES, name) else x

  return jax.tree_util.tree_map_with_path(leaf, params)


def window_noise(ids, shape, seed):
  """Normal noise that depends on a window's id and the seed: [B] -> [B,...]."""
  key = jax.random.key(seed)
  return jax.vmap(
      lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(ids)


def collect(predict, batches, progress=lambda done: None):
  """Predicts every batch and drops the padding.

  Args:
    predict: what `sampler` returns.
    batches: dicts of data_pipeline.spec with `valid` [B].
    progress: called with the number of windows done.

  Returns:
    {sample_id, proprio, goal, action} as given and {predicted_<name>} for each
    prediction, all [M,...] in the batches' order.

  Raises:
    NumericsError: a predicted waypoint is not finite.
  """
  rows = []
  for batch in batches:
    valid = np.asarray(batch["valid"])
    row = {name: batch[name] for name in KEPT}
    row |= {f"predicted_{k}": v for k, v in predict(batch).items()}
    row = {name: np.asarray(value)[valid] for name, value in row.items()}
    bad = ~np.isfinite(row["predicted_action"]).all((1, 2))
    if bad.any():
      raise errors.NumericsError(
          f"the plan for window {row['sample_id'][bad][0]} is not finite; "
          "evaluate an earlier checkpoint with --step")
    rows.append(row)
    progress(sum(len(r["sample_id"]) for r in rows))
  return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def with_images_of(batches, kept, order):
  """Batches of the windows `order`, everything but the images put back.

  Args:
    batches: evaluation batches over the windows `order`, in that order.
    kept: what `collect` returned for the true order.
    order: [M] position j whose images window i is shown.

  Yields:
    Batches in which row i holds window i's state and id, but the images of
    window order[i].
  """
  start = 0
  for batch in batches:
    valid = np.asarray(batch["valid"])
    stop = start + int(valid.sum())
    mixed = dict(batch)
    for name in KEPT:
      value = np.array(batch[name])
      value[valid] = kept[name][start:stop]
      mixed[name] = value
    start = stop
    yield mixed
  if start != len(order):
    raise ValueError(f"{start} windows came for an order of {len(order)}")
