"""The updates of a run, and between them what goes to the log and to disk.

The host is one step ahead: while the devices compute an update it prepares the
next batch, and it reads an update's metrics when the next one runs.
"""

import time

import jax

from data_pipeline import errors, masking
from drivemoe_jax import health, hosts, logs, memory, sharding
from drivemoe_jax import step as steps

SPEAK_EVERY_S = 5.0
BATCH = (*steps.OBSERVATION, "action", *steps.LABELS)


class Loop:
  """One run's updates, in one process."""

  def __init__(self, config, workdir, mesh, saver, carried, meta, samples,
               say):
    self._config, self._workdir, self._mesh = config, workdir, mesh
    self._saver, self._carried, self._meta = saver, carried, meta
    self._samples, self._say, self._spoken = samples, say, None
    self._memory = memory.Watch(
        config.host_memory_gb, host=jax.process_index(),
        say=hosts.own_words(say), shrink=self._shrink)
    self.warn = health.Warnings(say, self._keep)
    self._watch = health.Watch(
        self.warn, window=config.dead_expert_updates, spike=config.loss_spike)
    self._log = None

  def __call__(self, state, step_fn, feed, start, total):
    """Runs updates start..total-1; returns the last step that was saved.

    Args:
      feed: (config, step) -> this host's batches from there on.
    """
    c, self._total = self._config, total
    self._feed, self._drawn = feed, start
    self._meter = logs.Meter(start)
    self._batches = feed(c, start)
    self._log = logs.Log(self._workdir, start, wandb=c.wandb,
                         config=masking.mask(c.to_dict()), say=self._say
                         ) if hosts.first() else None
    try:
      with sharding.activate(self._mesh), hosts.Stop() as stop:
        return self._updates(state, step_fn, start, stop)
    finally:
      self._saver.close()
      if self._log:
        self._log.close()

  def _updates(self, state, step_fn, step, stop):
    c, key, behind = self._config, jax.random.key(self._config.seed), None
    batch = self._next() if step < self._total else None
    leave = step == self._total
    while not leave:
      state, metrics = step_fn(state, batch, key)
      step += 1
      leave = stop.after(step) or step == self._total
      self._memory(step)
      if not leave:
        batch = self._next()
      if behind:
        self._note(*behind)
      behind = step, metrics
      if self._saver.due(step) or leave:
        self._note(*behind)
        behind = None
        self._saver.save(step, steps.as_items(state, self._carried),
                         self._meta | _position(c, step), last=leave)
    return step

  def _keep(self, step, line):
    """Puts a warning beside the metrics, with what the update saw."""
    if self._log:
      self._log.warn(step, line, self._samples(step))

  def _next(self):
    """The next batch on the devices; arrays that the step needs."""
    batch = self._meter.next(self._batches)
    self._drawn += 1
    return steps.put_batch({k: batch[k] for k in BATCH if k in batch},
                           self._mesh)

  def _shrink(self):
    """Goes on with the same batches from as little memory as can be."""
    c = self._config.copy_and_resolve_references()
    with c.unlocked():
      c.data.ram_budget_gb = 0.0
    self._batches = None  # frees the images before others are read
    self._batches = self._feed(c, self._drawn)
    return ("keeping no images and one batch ahead, in place of "
            f"data.ram_budget_gb {self._config.data.ram_budget_gb:g}")

  def _note(self, step, metrics):
    """Checks an update's metrics; logs and prints those that are due."""
    c = self._config
    values = self._watch(step, jax.device_get(metrics))
    self._saver.note(values)
    if values["skipped_in_a_row"] and self._log:
      self._log.skip(step, self._samples(step))
    _check_finite(values, step, c, self._saver.last_healthy)
    due = step % c.log_every == 0 or step in (1, self._total)
    now = time.monotonic()
    speak = (self._spoken is None or now - self._spoken > SPEAK_EVERY_S
             or step == self._total)
    if due or speak:
      values |= self._meter.read(step, c.global_batch)
    if due:
      if self._log:
        self._log.write(step, values)
      self._meter.reset(step)
    if speak:
      self._say(_line(step, self._total, values))
      self._spoken = now


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


def _check_finite(values, step, config, last_healthy):
  """Stops a run whose updates are skipped one after the other."""
  bad = int(values["skipped_in_a_row"])
  if bad >= config.max_skipped:
    raise errors.NumericsError(
        f"{bad} non-finite updates in a row at step {step} of seed "
        f"{config.seed}. Last healthy: {last_healthy()} (kept). Look at "
        "the samples of these steps, which skipped.jsonl names, or train with "
        "a lower learning rate in another --workdir")


def _position(config, step):
  """Where in the data a checkpoint stands."""
  return {"step": step, "seed": config.seed, "stage": config.stage,
          "next_sample": step * config.global_batch}
