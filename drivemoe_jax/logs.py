"""What a run writes down: metrics.jsonl, TensorBoard events, optionally W&B.

A resumed run cuts the lines at and after its first new step, so that no step
stands twice; the curves go on where they were.
"""

import json
import os
import time

import psutil

from data_pipeline import errors, tf_cpu


class Log:
  """One run's log; process 0 alone makes one.

  Args:
    workdir: run folder. start: first step that will be written.
    wandb: log to Weights & Biases too (needs that package).
    config: shown with the W&B run.
  """

  def __init__(self, workdir, start, *, wandb=False, config=None):
    path = os.path.join(workdir, "metrics.jsonl")
    _cut(path, start)
    self._file = open(path, "a", encoding="utf-8", buffering=1)
    tf = tf_cpu.tensorflow()
    self._scalar = tf.summary.scalar
    self._events = tf.summary.create_file_writer(
        os.path.join(workdir, "tensorboard"))
    self._wandb = _open_wandb(workdir, config) if wandb else None

  def write(self, step, values):
    """One line of {name: number} at `step`."""
    values = {key: float(value) for key, value in values.items()}
    self._file.write(json.dumps({"step": step} | values) + "\n")
    with self._events.as_default(step):
      for key, value in values.items():
        self._scalar(key, value)
    self._events.flush()
    if self._wandb:
      self._wandb.log(values, step=step)

  def close(self):
    self._file.close()
    self._events.close()
    if self._wandb:
      self._wandb.finish()


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


def _cut(path, start):
  """Keeps the whole lines of steps before `start`, atomically."""
  if not os.path.exists(path):
    return
  with open(path, encoding="utf-8") as file:
    lines = file.readlines()
  kept = [line for line in lines if line.endswith("\n")  # a kill may cut one
          and json.loads(line)["step"] < start]
  if kept != lines:
    with open(path + ".part", "w", encoding="utf-8") as file:
      file.writelines(kept)
    os.replace(path + ".part", path)


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
