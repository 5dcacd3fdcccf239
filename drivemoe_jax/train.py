"""Trains one run: wires data, model, mesh, step and checkpoints.

The working directory is the run: started again with the same config it goes
on from its last checkpoint and ends with the same parameters, bit for bit.
"""

import contextlib
import dataclasses
import json
import math
import os
import time

import jax

from data_pipeline import errors, masking, order, writing
from drivemoe_jax import (
  build,
  checkpoint,
  compile_cache,
  datasets,
  health,
  hosts,
  init_from,
  loop,
  mishaps,
  preemption,
  resume,
  sharding,
  stepfolders,
)
from drivemoe_jax import saver as saver_lib
from drivemoe_jax import step as steps

RECORD_S, READ_S = 7200, 3600  # that hosts wait while another writes or reads
LEAVE_S = 120  # that a training before this one may take for its last save


def run(config, workdir, say=print, accepted=(), driven=None):
  """Trains until the last update.

  Args:
    config: see configs/common.py.
    workdir: folder of the run, made when absent; all hosts must see it.
    say: prints a line of progress; process 0 alone calls it.
    accepted: what may differ from the run in the workdir; resume.ACCEPTABLE.
    driven: see datasets.record.

  Returns:
    0, or 75 after SIGTERM: the state is saved, start again.
  """
  with mishaps.told(workdir, config), contextlib.ExitStack() as held:
    return _run(config, workdir, say, accepted, driven, held)


def _run(config, workdir, say, accepted, driven, held):
  sizes = build.mesh_sizes(config)
  hosts.check_mesh(sizes)
  build.microbatches(config, sizes)  # illegal sizes end here, before any data
  model = build.model(config)
  shapes = steps.param_shapes(model)
  sharding.specs(shapes, sizes)
  there = stepfolders.finished(_checkpoints(workdir))
  known = _saved_config(workdir, there)
  changes = _check_same_run(known, config, workdir, accepted)
  # A run that goes on needs nothing of where it began.
  opened = None if there else init_from.source(config)
  say = say if hosts.first() else lambda line: None
  config, train, stats = _data(config, workdir, bool(known), say, driven)
  total = _updates(config, len(train))
  mesh = sharding.make_mesh(sizes)
  cache = compile_cache.use(config.compile_cache, hosts.own_words(say))
  tx = build.optimizer(config, shapes)
  shardings = steps.state_shardings(model, tx, mesh)
  if hosts.first():  # a second training would clear away the first one's saves
    held.enter_context(writing.alone(workdir, "trained", LEAVE_S))
  saved = checkpoint.Checkpoints(workdir, keep_last=config.keep_last,
                                 keep_every=config.keep_every,
                                 keep_best=config.keep_best)
  meta = _meta(config, stats, train, sizes)
  start = _start(saved, total, workdir)
  hosts.agree("the run", meta["data"] | {"updates": total, "start": start},
              READ_S)
  with hosts.first_goes_ahead("weights", READ_S):
    weights = datasets.weights(config, workdir, train, fit=hosts.first())
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
  run = loop.Loop(config, workdir, mesh, saver, carried, meta,
              _samples_of(config, train, weights), say)
  health.check_plans(train, stats, config.flow.clip, run.warn)
  update = hosts.in_step("the update", steps.jit_train_step(
      build.train_step(config, model, tx, sizes, shardings.params), mesh,
      shardings))
  feed = lambda c, at: datasets.train_batches(c, train, stats, at, weights)
  stopped = run(state, cache.first_call(update), feed, start, total)
  if stopped < total:
    say(f"preempted: step {stopped} of {total}; start again to go on")
    return preemption.PREEMPTED
  say(f"done: step {total}")
  return 0


def _data(config, workdir, own, say, driven):
  """(config with the data's counts, training windows, their statistics).

  Args:
    own: whether statistics that are there are this run's, see
      datasets.statistics.
  """
  with hosts.first_goes_ahead("record", RECORD_S):
    if hosts.first():
      os.makedirs(workdir, exist_ok=True)
      datasets.record(config, workdir, _Progress(say), driven)
  train = datasets.windows(config, workdir, "train")
  datasets.check_fits(config, train)
  with hosts.first_goes_ahead("statistics", READ_S):
    stats = datasets.statistics(config, workdir, train, save=hosts.first(),
                                own=own or not hosts.first())
  return datasets.with_counts(config, train), train, stats


def _meta(config, stats, train, sizes):
  """What every checkpoint of the run tells beside its position."""
  return {"config": masking.mask(config.to_dict()),
          "statistics": dataclasses.asdict(stats),
          "data": resume.fingerprint(train),
          "saved_on": {"hosts": jax.process_count(),
                       "devices": math.prod(sizes.values())}}


def _start(saved, total, workdir):
  """Updates that the run has behind it."""
  start = saved.latest() or 0
  if start > total:
    raise errors.ConfigError(
        f"total_updates {total}, but {workdir} is at step {start} already; ask "
        "for as many or more, or train in another --workdir")
  return start


def _updates(config, windows):
  """Number of updates, at least one."""
  total = build.updates(config, windows)
  if total < 1:
    raise errors.ConfigError(
        f"{windows} training windows at global_batch {config.global_batch} for "
        f"{config.total_epochs} epochs (total_updates {config.total_updates}) "
        "make no update; lower global_batch or add routes")
  return total


def _samples_of(config, train, weights):
  """Function of a step: {"sample_ids", "frames"} that its update saw."""
  def at(step):
    ids = order.sample_ids(config.seed, step - 1, config.global_batch,
                           len(train), weights)
    names = zip(train.route_index[ids], train.frame[ids])
    return {"sample_ids": ids.tolist(),
            "frames": [f"{train.routes[r]}/{t:05d}" for r, t in names]}
  return at


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


def _check_same_run(saved, config, workdir, accepted):
  """Refuses a workdir that another config trained; the changes accepted."""
  if saved is None:
    return []
  now = build.flatten(config)
  for key in datasets.COUNTS:  # stated after the first look at the data
    if not now[key]:
      now[key] = saved[key]
  return resume.check_config(workdir, saved, now, accepted)


def _checkpoints(workdir):
  return os.path.join(workdir, "checkpoints")


def _saved_config(workdir, steps_there):
  """Flat config of the newest step, which knows best, or of the run's start."""
  if steps_there:
    step = max(steps_there)
    stepfolders.check_format(os.path.join(_checkpoints(workdir), str(step)),
                             steps_there[step])
    return build.flatten(build.saved_config(steps_there[step]))
  if os.path.exists(os.path.join(workdir, "config.json")):
    return build.flatten(build.load_config(workdir))
  return None


def _write_config(config, workdir):
  writing.put(os.path.join(workdir, "config.json"),
              json.dumps(masking.mask(config.to_dict()), indent=1))


class _Progress:
  """A line about recording every few seconds."""

  def __init__(self, say):
    self._say, self._spoken = say, 0.0

  def __call__(self, done, total, name):
    if done == total or time.monotonic() - self._spoken > loop.SPEAK_EVERY_S:
      self._say(f"record: {done}/{total} routes, {name}")
      self._spoken = time.monotonic()
