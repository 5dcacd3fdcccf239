"""From a configuration to the parts of a run that compute: model, mesh,
optimiser, loss. Its data are datasets.py's.

Training, evaluation, export and planning all build here, so that a part means
the same everywhere.
"""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from configs import common
from data_pipeline import (
  errors,
  masking,
  normalize,
  spec,
)
from drivemoe_jax import checkpoint, meshes, optim, run_config
from drivemoe_jax import step as steps
from drivemoe_jax.models import drivemoe


def model(config):
  """The model; settings that contradict each other are a ConfigError."""
  run_config.check(config)
  kw = config.model.to_dict()
  try:
    kw["dtype"] = jnp.dtype(kw["dtype"])
    built = drivemoe.DriveMoE(**kw)
    built.check()
  except (ValueError, TypeError, ArithmeticError) as error:
    raise errors.ConfigError(f"config.model: {error}") from None
  ids = config.prompt_ids
  if not ids or not all(type(i) is int for i in ids) or (
      max(ids) >= built.vocab_size):
    raise errors.ConfigError(
        f"prompt_ids {config.prompt_ids} do not fit vocab_size "
        f"{built.vocab_size}")
  return built


def mesh_sizes(config, devices=None):
  """{"data", "fsdp", "expert"} for a number of devices (those present)."""
  return meshes.choose(config.mesh,
                       jax.device_count() if devices is None else devices)


def microbatches(config, sizes):
  """Pieces in which a batch is computed; sizes that do not divide raise."""
  most = meshes.per_device_batch(config.mesh, config.per_device_batch)
  return meshes.microbatches(config.global_batch, most, sizes)


def updates(config, samples):
  """Number of updates: stated, or epochs over `samples` windows."""
  if config.total_updates is not None:
    return config.total_updates
  return samples // config.global_batch * config.total_epochs


def learning_rate(config, group):
  """update -> rate of the "action" or the "vlm" group."""
  o = config.optim
  return functools.partial(
      optim.learning_rate, max_lr=o[f"{group}_lr"], min_lr=o.min_lr,
      warmup_updates=o.warmup_updates, cycle_updates=o.cycle_updates)


def optimizer(config, shapes):
  """The optax transformation over a tree of these shapes."""
  o = config.optim
  try:
    return optim.make(
        shapes, action_lr=learning_rate(config, "action"),
        vlm_lr=learning_rate(config, "vlm"), clip_norm=o.clip_norm,
        kind=o.kind, first_moment_dtype=o.first_moment_dtype,
        freeze_last_value=o.freeze_last_value,
        skip_unused_experts=o.skip_unused_experts)
  except ValueError as error:
    raise errors.ConfigError(f"config.optim: {error}") from None


def loss(config, built):
  """(params, batch with draws, key) -> (loss, metrics)."""
  c = config.loss
  return steps.make_loss(
      built, camera_choice=config.camera_choice,
      skill_choice=config.skill_choice,
      weights={"action": c.action, "camera": c.camera, "skill": c.skill},
      alphas={"camera": spec.alphas(c.camera_counts),
              "skill": spec.alphas(c.skill_counts)},
      gamma=c.gamma, skill_loss=c.skill_level,
      sigma_min=config.flow.sigma_min, clip=config.flow.clip)


def train_step(config, built, tx, sizes, shardings):
  """(state, batch, key) -> (state, metrics), not yet jitted."""
  return steps.make_train_step(
      built, loss(config, built), tx, learning_rate(config, "action"),
      microbatches=microbatches(config, sizes),
      time_sampling=config.flow.time_sampling,
      sigma_min=config.flow.sigma_min,
      freeze_last_value=config.optim.freeze_last_value, shardings=shardings)


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained model as found in a working directory."""

  config: ml_collections.ConfigDict
  model: drivemoe.DriveMoE
  params: Any
  carried: dict
  statistics: normalize.Statistics
  step: int


from_json = run_config.from_json


def flatten(config):
  """{"a.b": value} of a config, its secrets hidden."""
  return common.flatten(masking.mask(config.to_dict()))


def load_config(workdir):
  """The configuration that a working directory was trained with."""
  return run_config.load(workdir)


def saved_config(meta):
  """The configuration that a step of a checkpoint was trained with."""
  return run_config.completed(run_config.from_json(meta["config"]))


def load_params(workdir, built, step=None):
  """(step, params, carried) of a saved step, None for the latest.

  Raises:
    CheckpointError: no such step, or parameters of another model.
  """
  saved = checkpoint.Checkpoints(workdir, read_only=True)
  step = saved.latest() if step is None else step
  if step is None:
    raise errors.CheckpointError(f"{workdir} holds no finished checkpoint yet")
  like = {"params": steps.param_shapes(built)}
  if saved.has(step, "carried"):
    like["carried"] = saved.tree(step, "carried")
  trees = saved.restore(step, like)
  saved.close()
  return step, trees["params"], trees.get("carried", {})


def load_run(workdir, step=None):
  """Config, model, parameters and statistics of a run.

  Args:
    step: a saved step; None takes the latest.

  Raises:
    CheckpointError: no such run or step.
  """
  config = load_config(workdir)
  built = model(config)
  found, params, carried = load_params(workdir, built, step)
  stats = normalize.load(os.path.join(workdir, "statistics.json"),
                         config.model.horizon)
  return Run(config, built, params, carried, stats, found)
