"""Trains one run: wires data, model, mesh, step and checkpoints.

The working directory is the run: started again with the same config it goes
on from its last checkpoint and ends with the same parameters, bit for bit.
"""

import dataclasses
import json
import os
import signal
import time

import jax

from data_pipeline import errors
from drivemoe_jax import build, checkpoint, init_from, logs, sharding
from drivemoe_jax import step as steps

PREEMPTED = 75
SPEAK_EVERY_S = 5.0
BATCH = (*steps.OBSERVATION, "action", *steps.LABELS)


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
  shapes = steps.param_shapes(model)
  sharding.specs(shapes, sizes)
  _check_same_run(config, workdir)
  opened = init_from.source(config)
  os.makedirs(workdir, exist_ok=True)

  build.record(config, workdir, _Progress(say))
  train = build.windows(config, workdir, "train")
  stats = build.statistics(config, workdir, train)
  config = build.with_counts(config, train)
  total = _updates(config, len(train))
  _write_config(config, workdir)

  mesh = sharding.make_mesh(sizes)
  tx = build.optimizer(config, shapes)
  shardings = steps.state_shardings(model, tx, mesh)
  saved = checkpoint.Checkpoints(workdir, keep_last=config.keep_last,
                                 keep_every=config.keep_every)
  meta = {"config": config.to_dict(), "statistics": dataclasses.asdict(stats),
          "data": build.fingerprint(train)}
  start = saved.latest() or 0
  where = (f"of {total}, batch {config.global_batch}, {len(train)} windows, "
           f"seed {config.seed}, mesh {sizes}")
  if start:
    _check_data(workdir, saved.meta(start)["data"], meta["data"])
    state, carried = _restore(saved, start, model, tx, shardings)
    say(f"resume: step {start}, next sample {start * config.global_batch}, "
        + where)
  else:
    state, carried = init_from.state(config, model, shapes, tx, mesh, opened,
                                     say)
    say(f"start: step 0 {where}")
  run = _Loop(config, workdir, mesh, saved, carried, meta, say)
  stopped = run(state, steps.jit_train_step(
      build.train_step(config, model, tx, sizes, shardings.params), mesh,
      shardings), build.train_batches(config, train, stats, start), start,
                total)
  if stopped < total:
    say(f"preempted: step {stopped} of {total}; start again to go on")
    return PREEMPTED
  say(f"done: step {total}")
  return 0


class _Loop:
  """Updates, and between them what goes to the log and to disk.

  The host is one step ahead: while the devices compute an update it prepares
  the next batch, and it reads an update's metrics when the next one runs.
  """

  def __init__(self, config, workdir, mesh, saved, carried, meta, say):
    self._config, self._workdir, self._mesh = config, workdir, mesh
    self._saved, self._carried, self._meta = saved, carried, meta
    self._say, self._spoken = say, None
    self._meter = logs.Meter()

  def __call__(self, state, step_fn, batches, start, total):
    """Runs updates start..total-1; returns the last step that was saved."""
    c, self._total = self._config, total
    self._log = logs.Log(self._workdir, start, wandb=c.wandb,
                         config=c.to_dict())
    try:
      with sharding.activate(self._mesh), _Stop() as stop:
        return self._updates(state, step_fn, batches, start, stop)
    finally:
      self._saved.close()
      self._log.close()

  def _updates(self, state, step_fn, batches, step, stop):
    c, key, behind = self._config, jax.random.key(self._config.seed), None
    batch = self._next(batches) if step < self._total else None
    while step < self._total and not stop.asked:
      state, metrics = step_fn(state, batch, key)
      step += 1
      if step < self._total:
        batch = self._next(batches)
      if behind:
        self._note(*behind)
      behind = step, metrics
      if step % c.save_every == 0 or step == self._total or stop.asked:
        self._note(*behind)
        behind = None
        self._saved.save(step, _trees(state, self._carried),
                         self._meta | _position(c, step))
    return step

  def _next(self, batches):
    """The next batch on the devices; arrays that the step needs."""
    batch = self._meter.next(batches)
    return steps.put_batch({k: batch[k] for k in BATCH if k in batch},
                           self._mesh)

  def _note(self, step, metrics):
    """Checks an update's metrics; logs and prints those that are due."""
    c = self._config
    values = jax.device_get(metrics)
    _check_finite(values, step, c)
    due = step % c.log_every == 0 or step in (1, self._total)
    now = time.monotonic()
    speak = (self._spoken is None or now - self._spoken > SPEAK_EVERY_S
             or step == self._total)
    if due or speak:
      values |= self._meter.read(c.global_batch)
    if due:
      self._log.write(step, values)
      self._meter.reset()
    if speak:
      self._say(_line(step, self._total, values))
      self._spoken = now


def _updates(config, windows):
  """Number of updates, at least one."""
  total = build.updates(config, windows)
  if total < 1:
    raise errors.ConfigError(
        f"{windows} training windows at global_batch {config.global_batch} for "
        f"{config.total_epochs} epochs (total_updates {config.total_updates}) "
        "make no update; lower global_batch or add routes")
  return total


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


def _check_data(workdir, saved, now):
  """Refuses to go on with other windows or labels than the run began with."""
  for name, digest in saved.items():
    if now[name] != digest:
      raise errors.ResumeError(
          f"{workdir} was trained on other {name}: digest {digest} there, "
          f"{now[name]} here; restore them or use another --workdir")


def _position(config, step):
  """Where in the data a checkpoint stands."""
  return {"step": step, "seed": config.seed, "stage": config.stage,
          "next_sample": step * config.global_batch}


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
