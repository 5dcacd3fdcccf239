"""Trains one run: wires data, model, mesh, step and checkpoints.

The working directory is the run: started again with the same config it goes
on from its last checkpoint and ends with the same parameters, bit for bit.
"""

import dataclasses
import json
import math
import os
import time

import jax

from data_pipeline import errors, order
from drivemoe_jax import (
  build,
  checkpoint,
  compile_cache,
  health,
  hosts,
  init_from,
  logs,
  resume,
  sharding,
  stepfolders,
)
from drivemoe_jax import saver as saver_lib
from drivemoe_jax import step as steps

PREEMPTED = 75
SPEAK_EVERY_S = 5.0
RECORD_S, READ_S = 7200, 3600  # that hosts wait while another writes or reads
BATCH = (*steps.OBSERVATION, "action", *steps.LABELS)


def run(config, workdir, say=print, accepted=()):
  """Trains until the last update.

  Args:
    config: see configs/common.py.
    workdir: folder of the run, made when absent; all hosts must see it.
    say: prints a line of progress; process 0 alone calls it.
    accepted: what may differ from the run in the workdir; resume.ACCEPTABLE.

  Returns:
    0, or 75 after SIGTERM: the state is saved, start again.
  """
  sizes = build.mesh_sizes(config)
  hosts.check_mesh(sizes)
  build.microbatches(config, sizes)  # illegal sizes end here, before any data
  model = build.model(config)
  shapes = steps.param_shapes(model)
  sharding.specs(shapes, sizes)
  changes = _check_same_run(config, workdir, accepted)
  opened = init_from.source(config)
  say = say if hosts.first() else lambda line: None
  with hosts.first_goes_ahead("record", RECORD_S):
    if hosts.first():
      os.makedirs(workdir, exist_ok=True)
      build.record(config, workdir, _Progress(say))
  train = build.windows(config, workdir, "train")
  with hosts.first_goes_ahead("statistics", READ_S):
    stats = build.statistics(config, workdir, train, save=hosts.first())
  config = build.with_counts(config, train)
  total = _updates(config, len(train))
  mesh = sharding.make_mesh(sizes)
  cache = compile_cache.use(config.compile_cache, hosts.own_words(say))
  tx = build.optimizer(config, shapes)
  shardings = steps.state_shardings(model, tx, mesh)
  saved = checkpoint.Checkpoints(workdir, keep_last=config.keep_last,
                                 keep_every=config.keep_every,
                                 keep_best=config.keep_best)
  meta = {"config": config.to_dict(), "statistics": dataclasses.asdict(stats),
          "data": resume.fingerprint(train),
          "saved_on": {"hosts": jax.process_count(),
                       "devices": math.prod(sizes.values())}}
  start = saved.latest() or 0
  hosts.agree("the run", meta["data"] | {"updates": total, "start": start},
              READ_S)
  where = (f"of {total}, batch {config.global_batch}, {len(train)} windows, "
           f"mesh {sizes}")
  if start:
    before = saved.meta(start)
    changes += resume.check_data(workdir, before["data"], meta["data"],
                                 accepted)
    meta["changes"] = resume.recorded(before, start, changes)
    state, carried = _restore(saved, start, model, tx, shardings)
    rate = build.learning_rate(config, "action")(start - int(state.skipped))
    say(resume.line(start, config.global_batch, config.seed, rate, before,
                    meta["saved_on"]) + f", {where}")
    for line in resume.told(start, changes):
      say(line)
  else:
    state, carried = init_from.state(config, model, shapes, tx, mesh, opened,
                                     say)
    say(f"start: step 0 {where}, seed {config.seed}")
  if hosts.first():
    _write_config(config, workdir)
  saver = saver_lib.Saver(saved, every=config.save_every,
                          keep_best=config.keep_best, say=say,
                          hosts=jax.process_count())
  run = _Loop(config, workdir, mesh, saver, carried, meta,
              _samples_of(config, train), say)
  update = hosts.in_step("the update", steps.jit_train_step(
      build.train_step(config, model, tx, sizes, shardings.params), mesh,
      shardings))
  stopped = run(state, cache.first_call(update),
                build.train_batches(config, train, stats, start), start, total)
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

  def __init__(self, config, workdir, mesh, saver, carried, meta, samples,
               say):
    self._config, self._workdir, self._mesh = config, workdir, mesh
    self._saver, self._carried, self._meta = saver, carried, meta
    self._samples, self._say, self._spoken = samples, say, None
    self._meter = logs.Meter()
    self._experts = health.Experts(config.dead_expert_updates, say)

  def __call__(self, state, step_fn, batches, start, total):
    """Runs updates start..total-1; returns the last step that was saved."""
    c, self._total = self._config, total
    self._log = logs.Log(self._workdir, start, wandb=c.wandb,
                         config=c.to_dict()) if hosts.first() else None
    try:
      with sharding.activate(self._mesh), hosts.Stop() as stop:
        return self._updates(state, step_fn, batches, start, stop)
    finally:
      self._saver.close()
      if self._log:
        self._log.close()

  def _updates(self, state, step_fn, batches, step, stop):
    c, key, behind = self._config, jax.random.key(self._config.seed), None
    batch = self._next(batches) if step < self._total else None
    leave = step == self._total
    while not leave:
      state, metrics = step_fn(state, batch, key)
      step += 1
      leave = stop.after(step) or step == self._total
      if not leave:
        batch = self._next(batches)
      if behind:
        self._note(*behind)
      behind = step, metrics
      if self._saver.due(step) or leave:
        self._note(*behind)
        behind = None
        self._saver.save(step, steps.as_items(state, self._carried),
                         self._meta | _position(c, step), last=leave)
    return step

  def _next(self, batches):
    """The next batch on the devices; arrays that the step needs."""
    batch = self._meter.next(batches)
    return steps.put_batch({k: batch[k] for k in BATCH if k in batch},
                           self._mesh)

  def _note(self, step, metrics):
    """Checks an update's metrics; logs and prints those that are due."""
    c = self._config
    values = self._experts(step, jax.device_get(metrics))
    self._saver.note(values)
    if values["skipped_in_a_row"] and self._log:
      self._log.skip(step, self._samples(step))
    _check_finite(values, step, c, self._saver.last_healthy)
    due = step % c.log_every == 0 or step in (1, self._total)
    now = time.monotonic()
    speak = (self._spoken is None or now - self._spoken > SPEAK_EVERY_S
             or step == self._total)
    if due or speak:
      values |= self._meter.read(c.global_batch)
    if due:
      if self._log:
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


def _samples_of(config, train):
  """Function of a step: {"sample_ids", "frames"} that its update saw."""
  weights = build.balance(config, train)

  def at(step):
    ids = order.sample_ids(config.seed, step - 1, config.global_batch,
                           len(train), weights)
    names = zip(train.route_index[ids], train.frame[ids])
    return {"sample_ids": ids.tolist(),
            "frames": [f"{train.routes[r]}/{t:05d}" for r, t in names]}
  return at


def _check_finite(values, step, config, last_healthy):
  """Stops a run whose updates are skipped one after the other."""
  bad = int(values["skipped_in_a_row"])
  if bad >= config.max_skipped:
    raise errors.NumericsError(
        f"{bad} non-finite updates in a row at step {step} of seed "
        f"{config.seed}. Last healthy: {last_healthy()} (kept). Lower the "
        "learning rate, or look at the samples of these steps: they are named "
        "in skipped.jsonl")


def _restore(saved, step, model, tx, shardings):
  """(state, carried) of a saved step, laid out for this run's mesh."""
  place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  like = jax.tree.map(place, steps.state_shapes(model, tx), shardings)
  carried = (saved.tree(step, "carried") if saved.has(step, "carried") else {})
  carried = jax.tree.map(lambda x: place(x, shardings.step), carried)
  trees = saved.restore(step, {
      item: tree for item, tree in steps.as_items(like, carried).items()
      if jax.tree.leaves(tree)})
  state = steps.TrainState(params=trees["params"], **trees["optimizer"])
  return state, trees.get("carried", {})


def _check_same_run(config, workdir, accepted):
  """Refuses a workdir that another config trained; the changes accepted."""
  saved = _saved_config(workdir)
  if saved is None:
    return []
  now = build.flatten(config)
  for key in build.COUNTS:  # stated after the first look at the data
    if not now[key]:
      now[key] = saved[key]
  return resume.check_config(workdir, saved, now, accepted)


def _saved_config(workdir):
  """Flat config of the newest step, which knows best, or of the run's start."""
  steps_there = stepfolders.finished(os.path.join(workdir, "checkpoints"))
  if steps_there:
    return build.flatten(build.from_json(
        steps_there[max(steps_there)]["config"]))
  if os.path.exists(os.path.join(workdir, "config.json")):
    return build.flatten(build.load_config(workdir))
  return None


def _write_config(config, workdir):
  path = os.path.join(workdir, "config.json")
  with open(path + ".part", "w", encoding="utf-8") as file:
    json.dump(config.to_dict(), file, indent=1)
  os.replace(path + ".part", path)


def _position(config, step):
  """Where in the data a checkpoint stands."""
  return {"step": step, "seed": config.seed, "stage": config.stage,
          "next_sample": step * config.global_batch}


class _Progress:
  """A line about recording every few seconds."""

  def __init__(self, say):
    self._say, self._spoken = say, 0.0

  def __call__(self, done, total, name):
    if done == total or time.monotonic() - self._spoken > SPEAK_EVERY_S:
      self._say(f"record: {done}/{total} routes, {name}")
      self._spoken = time.monotonic()
