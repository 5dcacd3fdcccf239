"""Trains one run: wires data, model, mesh, step and checkpoints.

The working directory is the run: started again with the same config it goes
on from its last checkpoint and ends with the same parameters, bit for bit.
"""

import json
import os
import signal
import time

import jax

from data_pipeline import errors
from drivemoe_jax import build, checkpoint, logs, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.weights import read

PREEMPTED = 75
SPEAK_EVERY_S = 5.0


def run(config, workdir, say=print):
  """Trains until the last update.

  Args:
    config: see configs/common.py.
    workdir: folder of the run, made when absent.
    say: prints a line of progress.

  Returns:
    0, or 75 after SIGTERM: the state is saved, start again.
  """
  sizes = build.mesh_sizes(config)
  build.microbatches(config, sizes)  # illegal sizes end here, before any data
  model = build.model(config)
  _check_init(config)
  os.makedirs(workdir, exist_ok=True)
  _check_same_run(config, workdir)

  build.record(config, workdir, _Progress(say))
  train = build.windows(config, workdir, "train")
  stats = build.statistics(config, workdir, train)
  config = build.with_counts(config, train)
  total = build.updates(config, len(train))
  _write_config(config, workdir)

  mesh = sharding.make_mesh(sizes)
  tx = build.optimizer(config, steps.param_shapes(model))
  shardings = steps.state_shardings(model, tx, mesh)
  saved = checkpoint.Checkpoints(workdir, keep_last=config.keep_last,
                                 keep_every=config.keep_every)
  start = saved.latest()
  if start is None:
    start = 0
    state, carried = _first_state(config, workdir, model, tx, mesh, say)
    say(f"start: {total} updates of {config.global_batch} samples, "
        f"{len(train)} windows, mesh {sizes}")
  else:
    state, carried = _restore(saved, start, model, tx, shardings)
    say(f"resume: step {start}, next sample {start * config.global_batch}, "
        f"seed {config.seed}, mesh {sizes}")
  step_fn = steps.jit_train_step(
      build.train_step(config, model, tx, sizes, shardings.params), mesh,
      shardings)
  batches = build.train_batches(config, train, stats, start)
  stopped = _loop(config, workdir, state, carried, step_fn, batches, mesh,
                  saved, start, total, say)
  if stopped is not None:
    say(f"preempted: saved step {stopped}; start again to go on")
    return PREEMPTED
  say(f"done: step {total}")
  return 0


def _loop(config, workdir, state, carried, step_fn, batches, mesh, saved,
          start, total, say):
  """Runs the updates; returns the step at which SIGTERM stopped it, or None."""
  log = logs.Log(workdir, start, wandb=config.wandb, config=config.to_dict())
  meter, stop, key = logs.Meter(), _Stop(), jax.random.key(config.seed)
  names = ("camera", "skill", *steps.OBSERVATION, "action")
  ahead = lambda: steps.put_batch(
      {k: v for k, v in meter.next(batches).items() if k in names}, mesh)
  spoken, waiting = time.monotonic(), None
  batch = ahead() if start < total else None
  with sharding.activate(mesh), stop:
    for step in range(start, total):
      state, metrics = step_fn(state, batch, key)
      # The device computes while the host prepares what comes next.
      batch = ahead() if step + 1 < total else None
      done = step + 1
      if done % config.log_every == 0 or done == total or done == start + 1:
        values = jax.device_get(metrics) | meter.read(config.global_batch)
        _check_finite(values, done, config)
        log.write(done, values)
        meter.reset()
        if time.monotonic() - spoken > SPEAK_EVERY_S or waiting is None:
          say(_line(done, total, values))
          spoken = time.monotonic()
        waiting = values
      if done % config.save_every == 0 or done == total or stop.asked:
        saved.save(done, _trees(state, carried), _meta(config, done))
      if stop.asked and done < total:
        break
    else:
      done = None
  saved.close()
  log.close()
  return done if stop.asked else None


def _line(step, total, values):
  """The progress line of a step."""
  v = values
  parts = [f"step {step}/{total}", f"loss {v['loss']:.4f}"]
  parts += [f"{name} {v[f'loss_{name}']:.4f}"
            for name in ("action", "camera", "skill") if f"loss_{name}" in v]
  parts += [f"lr {v['lr']:.1e}", f"grad {v['grad_norm']:.2f}",
            f"{v['samples_per_second']:.0f} samples/s",
            f"data wait {100 * v['data_wait_share']:.0f} %",
            f"memory {v['host_memory_gb']:.1f} GB"]
  return "  ".join(parts)


def _check_finite(values, step, config):
  """Stops a run whose updates are skipped one after the other."""
  bad = int(values["skipped_in_a_row"])
  if bad >= config.max_skipped:
    raise errors.NumericsError(
        f"{bad} non-finite updates in a row at step {step} of seed "
        f"{config.seed}; the last checkpoint is from before. Lower the "
        "learning rate or look at the samples of these steps")


def _first_state(config, workdir, model, tx, mesh, say):
  """Fresh state, or one that starts from another run's parameters."""
  source = config.init_from
  if not source:
    return steps.init_state(model, tx, mesh, config.seed), {}
  shapes = steps.param_shapes(model)
  folder, at = checkpoint.split_source(source)
  if os.path.isfile(os.path.join(folder, "config.json")):
    found, params, carried = build.load_params(folder, model, at)
    say(f"init: parameters of {folder}, step {found}")
  else:
    params, carried = read.official(source, shapes).params, {}
    say(f"init: parameters of {source}")
  return steps.state_from(params, tx, mesh), carried


COUNTERS = ("opt_state", "step", "skipped", "skipped_in_a_row")


def _trees(state, carried):
  """A state as the items of a checkpoint."""
  return {"params": state.params, "carried": carried,
          "optimizer": {name: getattr(state, name) for name in COUNTERS}}


def _restore(saved, step, model, tx, shardings):
  """(state, carried) of a saved step, laid out for this run's mesh."""
  like = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      steps.state_shapes(model, tx), shardings)
  carried = (saved.tree(step, "carried") if saved.has(step, "carried") else {})
  trees = saved.restore(step, {
      item: tree for item, tree in _trees(like, carried).items()
      if jax.tree.leaves(tree)})
  state = steps.TrainState(params=trees["params"], **trees["optimizer"])
  return state, trees.get("carried", {})


def _check_init(config):
  """A second stage starts from a first one, of the same horizon."""
  folder, _ = checkpoint.split_source(config.init_from or "")
  if config.stage == 2 and not config.init_from:
    raise errors.ConfigError(
        "stage 2 starts from stage 1: set --config.init_from=WORKDIR")
  if not config.init_from:
    return
  if not os.path.exists(folder):
    raise errors.CheckpointError(
        f"init_from {config.init_from!r} does not exist; train stage 1 first "
        "or name its working directory")
  if not os.path.isfile(os.path.join(folder, "config.json")):
    return
  other = build.load_config(folder)
  if config.stage == 2 and other.stage != 1:
    raise errors.CheckpointError(
        f"init_from {folder} is of stage {other.stage}; stage 2 starts from a "
        "stage 1 run")


def _check_same_run(config, workdir):
  """Refuses a workdir that another config trained."""
  path = os.path.join(workdir, "config.json")
  if not os.path.exists(path):
    return
  saved = build.flatten(build.load_config(workdir))
  now = build.flatten(config)
  for key in build.COUNTS:  # stated after the first look at the data
    if not now[key]:
      now[key] = saved[key]
  checkpoint.check_config(workdir, saved, now)


def _write_config(config, workdir):
  path = os.path.join(workdir, "config.json")
  with open(path + ".part", "w", encoding="utf-8") as file:
    json.dump(config.to_dict(), file, indent=1)
  os.replace(path + ".part", path)


def _meta(config, step):
  """What a checkpoint says beside its arrays."""
  return {"step": step, "seed": config.seed, "stage": config.stage,
          "next_sample": step * config.global_batch,
          "config": config.to_dict()}


class _Stop:
  """Notes SIGTERM, the notice that the machine is going away."""

  asked = False

  def __enter__(self):
    self._old = signal.signal(signal.SIGTERM, self._note)
    return self

  def _note(self, *_):
    self.asked = True

  def __exit__(self, *_):
    signal.signal(signal.SIGTERM, self._old)


class _Progress:
  """A line about recording every few seconds."""

  def __init__(self, say):
    self._say, self._spoken = say, 0.0

  def __call__(self, done, total, name):
    if done == total or time.monotonic() - self._spoken > SPEAK_EVERY_S:
      self._say(f"record: {done}/{total} routes, {name}")
      self._spoken = time.monotonic()
