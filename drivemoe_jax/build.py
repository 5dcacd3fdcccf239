"""From a configuration to the parts of a run; the only reader of model, mesh,
optimiser, loss and data keys.

Training, evaluation, export and planning all build here, so that a part means
the same everywhere.
"""

import dataclasses
import functools
import os
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_pipeline import (
  bench2drive,
  errors,
  loader,
  masking,
  normalize,
  order,
  prepared,
  spec,
)
from data_pipeline import options as options_lib
from data_pipeline import windows as windows_lib
from drivemoe_jax import checkpoint, meshes, optim, run_config
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import yardsticks
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
      freeze_last_value=config.optim.freeze_last_value, shardings=shardings)


def data_folder(config, workdir):
  """Where `{data}` of the data paths points: this run's recorded routes, or
  those of the run that it starts from."""
  source = checkpoint.split_source(config.init_from or "")[0]
  if source and os.path.isfile(
      os.path.join(source, "data", "dataset.json")):
    return os.path.join(source, "data")
  return os.path.join(workdir, "data")


def record(config, workdir, progress=None):
  """Records the embedded world's routes if the config says so; idempotent."""
  r = config.data.record
  if not r or "{data}" not in config.data.root:
    return
  from data_pipeline.miniworld import names, recorder  # a pod has neither
  first, kinds = recorder.VAL_SEED, tuple(r.get("scenarios", ()))
  recorder.record(
      data_folder(config, workdir), names.TYPES if kinds == ("all",) else kinds,
      seeds=range(r.train_seeds), val_seeds=range(first, first + r.val_seeds),
      size=(r.width_px, r.height_px), max_frames=r.max_frames,
      val_max_frames=r.get("val_max_frames"),
      handover_frames=r.get("handover_frames", 0),
      workers=config.data.workers, progress=progress)


def options(config):
  """options.Options: which of the release's oddities the run repeats."""
  d = config.data
  return options_lib.OFFICIAL if d.official_parity else options_lib.Options(
      **{f.name: d[f.name] for f in dataclasses.fields(options_lib.Options)})


def windows(config, workdir, split):
  """All samples of "train" or "val", of raw or of prepared routes."""
  d = config.data
  place = lambda path: path and path.replace(
      "{data}", data_folder(config, workdir))
  root, val_list = place(d.root), place(d.val_list)
  ways = ({"val_list": val_list} if val_list else
          {"val_fraction": d.val_fraction, "seed": config.seed})
  data = prepared.Prepared(root) if prepared.is_prepared(root) else None
  names = data.names() if data else bench2drive.list_routes(root)
  train, val = bench2drive.split(names, **ways)
  chosen = {"train": train, "val": val}[split]
  o = options(config)
  kw = dict(
      history=config.model.history, horizon=config.model.horizon,
      on_bad_record=d.on_bad_record, skip_cap=d.skip_cap,
      wrap_theta=o.wrap_theta, nan_heading=o.nan_heading,
      drop_current_point=o.drop_current_point)
  if data:  # its labels are in the records
    found = data.collect(chosen, **kw)
  else:
    found = windows_lib.collect(
        root, place(d.labels_root) or None, chosen, **kw)
  if split == "train" and d.whole_past:
    return windows_lib.with_whole_past(found)
  return found


def statistics(config, workdir, train, save=True):
  """Normalisation of this run: its own file, its source's, or computed.

  Args:
    train: training windows. save: write them to the working directory.

  Raises:
    DataError: a file of another horizon, or of other plans.
  """
  own = os.path.join(workdir, "statistics.json")
  source = config.init_from and os.path.join(
      checkpoint.split_source(config.init_from)[0], "statistics.json")
  for path in (own, config.data.statistics, source):
    if path and (path == normalize.OFFICIAL or os.path.isfile(path)):
      found = normalize.load(
          path, config.model.horizon,
          any_horizon=options(config).statistics_any_horizon)
      found.check(train, path)
      break
  else:
    if config.data.statistics:
      raise errors.DataError(
          f"no statistics at {config.data.statistics}; leave "
          "data.statistics empty to compute them from the training windows")
    found = normalize.compute(train)
  if save:
    found.save(own)
  return found


def with_counts(config, train):
  """The config with the class counts of `train` where it states none."""
  c = config.copy_and_resolve_references()
  for name, classes, labels in (
      ("camera_counts", spec.Camera, train.camera),
      ("skill_counts", spec.Skill, train.skill)):
    if not c.loss[name] and labels is not None:
      count = np.bincount(labels, minlength=len(classes)).tolist()
      c.loss[name] = tuple(count)
  return c.lock()


def views(config):
  """Candidate views that training looks at, as loader.train_batches wants."""
  if config.model.view != "dynamic":
    return tuple(config.model.view)
  return "label" if config.camera_choice == "label" else None


def weights(config, train):
  """order.Weights of the training windows, or None where all count alike."""
  d, found = config.data, []
  if d.skill_balance:
    found.append(order.balanced(train.skill, d.skill_balance))
  if d.keyframes:
    found.append(order.keyframes(yardsticks.surprise(train), d.keyframes))
  return order.product(found) if found else None


def train_batches(config, train, stats, start_step, dealt):
  """This host's endless batches from `start_step` on; dealt: weights()."""
  d = config.data
  mesh = meshes.make_mesh(mesh_sizes(config))
  return loader.train_batches(
      train, stats, batch_size=config.global_batch, seed=config.seed,
      image_size=config.model.image_size, prompt_ids=config.prompt_ids,
      text_len=config.model.text_len, start_step=start_step,
      augment=d.augment, rows=steps.local_rows(mesh, config.global_batch),
      weights=dealt, views=views(config),
      tf_shared_seed=options(config).tf_shared_seed,
      on_bad_record=d.on_bad_record, skip_cap=d.skip_cap,
      ram_budget_gb=d.ram_budget_gb, workers=d.workers)


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
# Class counts that a config may leave to the data.
COUNTS = ("loss.camera_counts", "loss.skill_counts")


def flatten(config):
  """{"a.b": value} of a config."""
  return flax.traverse_util.flatten_dict(
      masking.mask(config.to_dict()), sep=".")


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
