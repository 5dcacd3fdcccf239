"""What a run writes down: metrics.jsonl, TensorBoard events, optionally W&B;
skipped.jsonl has the samples of updates that were left out, warnings.jsonl
what was warned of.

metrics.jsonl is the record. A run that starts again drops the lines after the
step it goes on from and writes the events anew from the rest, so that no step
stands twice in either.
"""

import glob
import math
import os
import time

import psutil

from data_pipeline import errors, schema, tf_cpu
from drivemoe_jax import lines


class Log:
  """One run's log; process 0 alone makes one."""

  def __init__(self, workdir, done, *, wandb=False, config=None, say=print):
    """Opens the log behind step `done`.

    Args:
      workdir: run folder. done: updates done, 0 for a fresh run.
      wandb: log to Weights & Biases too (needs that package).
      config: dict shown with the W&B run. say: prints a line.
    """
    self._metrics, self._skipped, self._warnings = (
        lines.Lines(os.path.join(workdir, name), done, say)
        for name in ("metrics.jsonl", "skipped.jsonl", "warnings.jsonl"))
    self._events = _Events(os.path.join(workdir, "tensorboard"),
                           self._metrics.before, say)
    self._wandb = _open_wandb(workdir, config) if wandb else None

  def write(self, step, values):
    """One line of {name: number} at `step`."""
    values = {key: float(value) for key, value in values.items()}
    line = {"step": step, "time": round(time.time(), 3)} | {
        # JSON has no NaN
        key: x if math.isfinite(x) else None for key, x in values.items()}
    self._metrics.add(line)
    self._events.write(line)
    if self._wandb:
      self._wandb.log(values, step=step)

  def skip(self, step, samples):
    """Notes an update that was left out, in skipped.jsonl.

    Args:
      samples: JSON object that says which samples were in it.
    """
    self._skipped.add({"step": step} | samples)

  def warn(self, step, line, samples):
    """Notes a warning, in warnings.jsonl; samples as in `skip`."""
    self._warnings.add({"step": step, "time": round(time.time(), 3),
                        "warning": line} | samples)

  def close(self):
    for file in (self._metrics, self._skipped, self._warnings, self._events):
      file.close()
    if self._wandb:
      self._wandb.finish()


class _Events:
  """A TensorBoard file of what stands in metrics.jsonl.

  It can be made anew from there, so that a disk that refuses it only ends it.
  """

  def __init__(self, folder, before, say):
    self._tf, self._folder, self._say = tf_cpu.tensorflow(), folder, say
    os.makedirs(folder, exist_ok=True)
    old = glob.glob(os.path.join(folder, "events.out.tfevents.*"))
    stamp = time.time_ns()
    while (path := os.path.join(
        folder, f"events.out.tfevents.{stamp}.train")) in old:
      stamp += 1  # a clock that was set back
    self._writer = self._tf.io.TFRecordWriter(path)
    self._try(lambda: self._put(file_version="brain.Event:2",
                                wall_time=time.time()))
    for line in before:
      if schema.number(line.get("time")):
        self.write(line)
    for path in old:
      os.remove(path)

  def write(self, line):
    self._try(lambda: self._write(line))

  def close(self):
    self._try(lambda: self._writer.close())

  def _try(self, action):
    if self._writer is None:
      return
    try:
      action()
    except self._tf.errors.OpError as error:
      self._writer = None
      self._say(f"W-LOG: {self._folder} cannot be written ({error.message}); "
                "no more events until the next start, which makes them anew "
                "from metrics.jsonl")

  def _write(self, line):
    summary = self._tf.compat.v1.Summary
    self._put(wall_time=line["time"], step=line["step"], summary=summary(
        value=[summary.Value(tag=key, simple_value=x)
               for key, x in line.items()
               if key not in ("step", "time") and schema.number(x)]))
    self._writer.flush()

  def _put(self, **fields):
    event = self._tf.compat.v1.Event(**fields)
    self._writer.write(event.SerializeToString())


class Meter:
  """Shares of a stretch of training: rates, waiting for data, memory."""

  def __init__(self, step):
    """Begins after update number `step`."""
    self._process = psutil.Process()
    self.reset(step)

  def reset(self, step):
    self._start, self._waited, self._step = time.monotonic(), 0.0, step

  def next(self, batches):
    """next(batches), counted as waiting."""
    start = time.monotonic()
    batch = next(batches)
    self._waited += time.monotonic() - start
    return batch

  def read(self, step, batch_size):
    """Rates since the last reset, and the host's memory of this process."""
    seconds = max(time.monotonic() - self._start, 1e-9)
    updates = step - self._step
    return {"samples_per_second": updates * batch_size / seconds,
            "step_seconds": seconds / max(updates, 1),
            "data_wait_share": self._waited / seconds,
            "host_memory_gb": self._process.memory_info().rss / 1e9}


def _open_wandb(workdir, config):
  """A W&B run whose id is kept in the workdir, so that a restart goes on."""
  try:
    import wandb
  except ImportError:
    raise errors.ConfigError(
        "wandb=True needs the package wandb; install it or leave it False"
    ) from None
  path = os.path.join(workdir, "wandb_id")
  if not os.path.exists(path):
    with open(path + ".part", "w", encoding="utf-8") as file:
      file.write(wandb.util.generate_id())
    os.replace(path + ".part", path)
  with open(path, encoding="utf-8") as file:
    return wandb.init(project="drivemoe_jax", id=file.read(), resume="allow",
                      dir=workdir, config=config)
