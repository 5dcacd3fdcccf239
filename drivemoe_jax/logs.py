"""What a run writes down: metrics.jsonl, TensorBoard events, optionally W&B;
skipped.jsonl has the samples of updates that were left out.

metrics.jsonl is the record. A run that starts again drops the lines after the
step it goes on from and writes the events anew from the rest, so that no step
stands twice in either.
"""

import glob
import json
import math
import os
import time

import psutil

from data_pipeline import errors, tf_cpu


class Log:
  """One run's log; process 0 alone makes one."""

  def __init__(self, workdir, done, *, wandb=False, config=None):
    """Opens the log behind step `done`.

    Args:
      workdir: run folder. done: updates done, 0 for a fresh run.
      wandb: log to Weights & Biases too (needs that package).
      config: dict shown with the W&B run.
    """
    path = os.path.join(workdir, "metrics.jsonl")
    lines = _cut(path, done)
    self._file = open(path, "a", encoding="utf-8", buffering=1)
    self._events = _Events(os.path.join(workdir, "tensorboard"), lines)
    self._skipped = os.path.join(workdir, "skipped.jsonl")
    _cut(self._skipped, done)
    self._wandb = _open_wandb(workdir, config) if wandb else None

  def write(self, step, values):
    """One line of {name: number} at `step`."""
    values = {key: float(value) for key, value in values.items()}
    line = {"step": step, "time": round(time.time(), 3)} | {
        # JSON has no NaN
        key: x if math.isfinite(x) else None for key, x in values.items()}
    self._file.write(json.dumps(line) + "\n")
    self._events.write(line)
    if self._wandb:
      self._wandb.log(values, step=step)

  def skip(self, step, samples):
    """Notes an update that was left out, in skipped.jsonl.

    Args:
      samples: JSON object that says which samples were in it.
    """
    with open(self._skipped, "a", encoding="utf-8") as file:
      file.write(json.dumps({"step": step} | samples) + "\n")

  def close(self):
    self._file.close()
    self._events.close()
    if self._wandb:
      self._wandb.finish()


class _Events:
  """A TensorBoard file of what stands in metrics.jsonl."""

  def __init__(self, folder, lines):
    self._tf = tf_cpu.tensorflow()
    os.makedirs(folder, exist_ok=True)
    old = glob.glob(os.path.join(folder, "events.out.tfevents.*"))
    self._writer = self._tf.io.TFRecordWriter(os.path.join(
        folder, f"events.out.tfevents.{time.time_ns()}.train"))
    self._put(file_version="brain.Event:2", wall_time=time.time())
    for line in lines:
      self.write(line)
    for path in old:
      os.remove(path)

  def write(self, line):
    summary = self._tf.compat.v1.Summary
    self._put(wall_time=line["time"], step=line["step"], summary=summary(
        value=[summary.Value(tag=key, simple_value=x)
               for key, x in line.items()
               if key not in ("step", "time") and x is not None]))
    self._writer.flush()

  def _put(self, **fields):
    event = self._tf.compat.v1.Event(**fields)
    self._writer.write(event.SerializeToString())

  def close(self):
    self._writer.close()


class Meter:
  """Shares of a stretch of training: rates, waiting for data, memory."""

  def __init__(self):
    self._process = psutil.Process()
    self.reset()

  def reset(self):
    self._start, self._waited, self._steps = time.monotonic(), 0.0, 0

  def next(self, batches):
    """next(batches), counted as waiting."""
    start = time.monotonic()
    batch = next(batches)
    self._waited += time.monotonic() - start
    self._steps += 1
    return batch

  def read(self, batch_size):
    """Rates since the last reset, and the host's memory of this process."""
    seconds = max(time.monotonic() - self._start, 1e-9)
    return {"samples_per_second": self._steps * batch_size / seconds,
            "step_seconds": seconds / max(self._steps, 1),
            "data_wait_share": self._waited / seconds,
            "host_memory_gb": self._process.memory_info().rss / 1e9}


def _cut(path, done):
  """Keeps the lines up to step `done`, atomically; returns their contents."""
  if not os.path.exists(path):
    return []
  with open(path, encoding="utf-8") as file:
    lines = file.readlines()
  whole = [line for line in lines if line.endswith("\n")]  # a kill cuts one
  kept = [line for line in whole if json.loads(line)["step"] <= done]
  if kept != lines:
    with open(path + ".part", "w", encoding="utf-8") as file:
      file.writelines(kept)
    os.replace(path + ".part", path)
  return [json.loads(line) for line in kept]


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
