"""Orbax checkpoints of a run: WORKDIR/checkpoints/<step>/{params,...,meta}.

A save goes on in the background and becomes visible by a rename, so a killed
one is never taken for good. Restoring takes shapes and shards from the current
run, compares the whole tree first, and so works on another mesh or number of
hosts and never half-loads. Which folders count and stay: stepfolders.py.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
import re

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from data_pipeline import errors
from drivemoe_jax import fit, stepfolders
from drivemoe_jax.weights import store

FORMAT = stepfolders.FORMAT
TREES = ("params", "optimizer", "carried")
COMMIT_S = 600  # that hosts wait for each other's part of a save

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a save went; `error` is the exception that broke it, or None."""

  step: int
  error: Exception | None

  @property
  def why(self):
    return cause(self.error)


class Checkpoints:
  """The checkpoints of one run folder.

  `read_only` neither makes nor removes anything.
  """

  def __init__(self, workdir, *, keep_last=None, keep_every=None,
               keep_best="", read_only=False):
    """keep_*: as in stepfolders.superfluous."""
    self.workdir = workdir
    self._folder = os.path.join(os.path.abspath(workdir), "checkpoints")
    self._keep = dict(keep_last=keep_last, keep_every=keep_every,
                      keep_best=keep_best)
    self._writes = not read_only and jax.process_index() == 0
    self._known, self._saving, self._pending = {}, None, None
    if read_only and not os.path.isdir(self._folder):
      raise errors.CheckpointError(
          f"{workdir} holds no checkpoint; name a folder that "
          "`launch.train --workdir` has written")
    if self._writes:
      os.makedirs(self._folder, exist_ok=True)
      stepfolders.clear(self._folder)
      stepfolders.empty_trash(self._folder)
    self._there = set(self.steps())  # as all hosts know it, see `save`
    self._background = concurrent.futures.ThreadPoolExecutor(1)

  @functools.cached_property
  def _orbax(self):
    """Made when needed, since it opens the devices."""
    # It tells of every save; a run's log has its own line for it.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.AsyncCheckpointer(
        ocp.CompositeCheckpointHandler(
            meta=ocp.JsonCheckpointHandler(),
            **{item: ocp.StandardCheckpointHandler() for item in TREES}),
        async_options=ocp.options.AsyncOptions(
            timeout_secs=COMMIT_S, post_finalization_callback=self._list))

  def steps(self):
    """{finished step: its meta}, oldest first."""
    self._known = stepfolders.finished(self._folder, self._known)
    return self._known

  def latest(self):
    """The newest finished step, or None."""
    return max(self.steps(), default=None)

  def save(self, step, trees, meta):
    """Begins to save, unless this step is there; waits for the one before.

    Args:
      step: number of updates done.
      trees: {item of TREES: pytree of arrays}; empty trees are left out.
      meta: JSON object.

    Raises:
      SaveError: the save before this one failed, and nobody had asked.
    """
    self._raise(self.outcome(wait=True))
    if step in self._there:  # not what lies on disk: hosts may see that late
      return
    self._saving, error = step, None
    try:
      if self._writes:
        stepfolders.begin(self._folder, step)
    except OSError as caught:
      error = caught
    if not _on_any_host(error):
      try:
        self._orbax.save(self._path(step), args=ocp.args.Composite(
            meta=ocp.args.JsonSave(meta | {"format": FORMAT, "listed": True}),
            **{name: ocp.args.StandardSave(tree)
               for name, tree in trees.items() if jax.tree.leaves(tree)}))
      except Exception as caught:  # whatever the storage's library raises
        error = caught
    self._pending = self._background.submit(self._finish, step, error)

  def outcome(self, wait=False, alone=False):
    """How the last save went, told once: Outcome; None: nothing new.

    Hosts learn it together, so with several this waits or tells nothing,
    unless it is asked `alone`, by a host that ends whatever the others do.
    """
    if self._pending is None or not wait and (
        jax.process_count() > 1 or not self._pending.done()):
      return None
    found, self._pending = self._pending.result(), None
    if not alone and _on_any_host(found.error) and not found.error:
      return Outcome(found.step, OSError("another host could not write"))
    if found.error is None:  # agreed: else some hosts would not try it again
      self._there.add(found.step)
    return found

  def _finish(self, step, error):
    """In the background: waits for the commit, then removes what may go."""
    try:
      if error is None:
        self._orbax.wait_until_finished()
        why = self._writes and stepfolders.fault(self._path(step))
        error = OSError(why) if why else None
    except Exception as caught:  # as above
      error = caught
    try:
      if self._writes and error:
        stepfolders.clear(self._folder)
      elif self._writes:
        stepfolders.end(self._folder)
        for old in stepfolders.superfluous(self.steps(), **self._keep):
          stepfolders.remove(self._folder, old)
    except OSError as caught:  # the step itself is there, or told as broken
      logger.warning("%s could not be tidied: %s", self._folder, caught)
    return Outcome(step, error)

  def _list(self):
    """Called by Orbax on process 0 when all is written, before the rename."""
    for name in os.listdir(self._folder):
      if name.startswith(f"{self._saving}."):
        stepfolders.write_list(os.path.join(self._folder, name))

  def _raise(self, outcome):
    if outcome and outcome.error:
      raise errors.SaveError(
          f"step {outcome.step} was not saved in {self._folder} "
          f"({outcome.why}); last good: {self.latest()}"
      ) from outcome.error

  def meta(self, step):
    """The JSON object saved at `step`.

    Raises:
      CheckpointError: no such step, or a format that this version cannot read.
    """
    self._require(step)
    meta = self.steps()[step]
    stepfolders.check_format(self._place(step), meta)
    return meta

  def restore(self, step, like):
    """Reads trees back.

    Args:
      like: {item: pytree of jax.ShapeDtypeStruct}; their `sharding` says where
        each array goes, without one it goes to the default device.

    Returns:
      {item: pytree of jax arrays}.

    Raises:
      CheckpointError: no such step, or a tree that differs in any path, shape
        or type; then nothing was read.
    """
    for item, tree in like.items():
      found = self.tree(step, item) if self.has(step, item) else {}
      fit.compare(f"{self._place(step)}/{item}", fit.flat(found),
                  fit.flat(tree))
    with self._reading(step):
      found = self._orbax.restore(self._path(step), args=ocp.args.Composite(**{
          item: ocp.args.StandardRestore(jax.tree.map(_placed, tree))
          for item, tree in like.items()}))
    return {item: found[item] for item in like}

  def has(self, step, item):
    """Whether that item was saved at `step`."""
    self._require(step)
    return os.path.isdir(os.path.join(self._path(step), item))

  def tree(self, step, item):
    """Shapes of a saved item, as nested dicts of jax.ShapeDtypeStruct."""
    self._require(step)
    with self._reading(step):
      stored = self._orbax.metadata(self._path(step)).item_metadata[item].tree
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), stored)

  def arrays(self, step, item="params"):
    """A saved item without any device: {"a/b": tensors.Tensor}.

    Each reads its NumPy array when asked; one at a time is in memory.
    """
    self._require(step)
    return store.tensors_of(os.path.join(self._path(step), item))

  def close(self):
    """Waits until everything is on disk.

    Raises:
      SaveError: the last save failed, and nobody had asked.
    """
    try:
      self._raise(self.outcome(wait=True, alone=True))
    finally:
      self._background.shutdown()
      if "_orbax" in vars(self):
        self._orbax.close()

  def _path(self, step):
    return os.path.join(self._folder, str(step))

  def _place(self, step):
    return os.path.join(self.workdir, "checkpoints", str(step))

  def _require(self, step):
    steps = sorted(self.steps())
    if step not in steps:
      why = stepfolders.fault(self._path(step)) if os.path.isdir(
          self._path(step)) else None
      raise errors.CheckpointError(
          f"{self.workdir} holds no finished step {step}; it has "
          f"{steps or 'none'}" + (f". {self._place(step)}: {why}" if why
                                  else ""))

  @contextlib.contextmanager
  def _reading(self, step):
    """Turns what goes wrong with the files of a step into our error."""
    try:
      yield
    except MemoryError:
      raise
    except Exception as error:  # whatever the storage's library raises
      raise errors.CheckpointError(
          f"{self._place(step)} cannot be read ({cause(error)}); "
          "remove that folder to fall back to an earlier step") from error


def cause(error):
  """What an exception says, short enough for a line; the reason comes last."""
  line = (str(error).splitlines() or [type(error).__name__])[0]
  line = re.sub(r" \[\w+='.*", "", line)  # where in the library it arose
  return line if len(line) <= 160 else f"{line[:50]} ... {line[-105:]}"


def split_source(source):
  """"DIR@STEP" -> (DIR, STEP); "DIR" -> (DIR, None)."""
  folder, _, step = source.rpartition("@")
  return (folder, int(step)) if folder and step.isdigit() else (source, None)


def _on_any_host(error):
  """Whether some process has an error, the same answer on all."""
  if jax.process_count() == 1:
    return error is not None
  return bool(np.any(multihost_utils.process_allgather(
      np.array(error is not None))))


def _placed(x):
  place = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(
      jax.devices()[0])
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
