"""Orbax checkpoints of a run: WORKDIR/checkpoints/<step>/{params,...,meta}.

A save becomes visible by a rename, so a killed one is never taken for good.
Restoring takes shapes and shards from the current run, compares the whole tree
first, and so works on another mesh and never half-loads.
"""

import contextlib
import logging
import os
import shutil

import jax
import orbax.checkpoint as ocp

from data_pipeline import errors

FORMAT = 1
TREES = ("params", "optimizer", "carried")
TRASH = ".deleted"
# Settings that a resumed run may change: they alter no number of the training,
# or, like the data's place, are checked by what lies there.
FREE = ("log_every", "save_every", "keep_last", "keep_every", "wandb", "mesh.",
        "per_device_batch", "model.remat", "model.expert_exchange",
        "dead_expert_updates", "data.root", "data.labels", "data.val_list",
        "data.workers", "data.ram_budget_gb", "flow.steps",
        "flow.clip", "total_updates", "total_epochs")


class Checkpoints:
  """The checkpoints of one run folder.

  Saves go on in the background; `close` waits for them. `read_only` neither
  makes nor removes anything.
  """

  def __init__(self, workdir, *, keep_last=None, keep_every=None,
               read_only=False):
    """keep_last: newest steps kept; keep_every: multiples kept for good."""
    self.workdir = workdir
    self._folder = os.path.join(os.path.abspath(workdir), "checkpoints")
    self._read_only = read_only
    if read_only and not os.path.isdir(self._folder):
      raise errors.CheckpointError(
          f"{workdir} holds no checkpoint; name a folder that "
          "`launch.train --workdir` has written")
    # Orbax tells of every save; a run's log has its own line for it.
    logging.getLogger("absl").setLevel(logging.ERROR)
    handlers = {item: ocp.StandardCheckpointHandler() for item in TREES}
    self._manager = ocp.CheckpointManager(
        self._folder,
        item_handlers=handlers | {"meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep_last or None, keep_period=keep_every or None,
            create=not read_only, read_only=read_only,
            # Renamed first: a step that is being removed must not look whole.
            todelete_subdir=None if read_only else TRASH))

  def latest(self):
    """The newest finished step, or None."""
    return self._manager.latest_step()

  def save(self, step, trees, meta):
    """Begins to save, unless this step is there.

    Args:
      step: number of updates done.
      trees: {item of TREES: pytree of arrays}; empty trees are left out.
      meta: JSON object.
    """
    if step in self._manager.all_steps():
      return
    self._empty_trash()
    items = {name: ocp.args.StandardSave(tree)
             for name, tree in trees.items() if jax.tree.leaves(tree)}
    self._manager.save(step, args=ocp.args.Composite(
        **items, meta=ocp.args.JsonSave(meta | {"format": FORMAT})))

  def meta(self, step):
    """The JSON object saved at `step`.

    Raises:
      CheckpointError: no such step, or a format that this version cannot read.
    """
    self._require(step)
    meta = self._restore(step, {"meta": ocp.args.JsonRestore()})["meta"]
    if meta["format"] != FORMAT:
      raise errors.CheckpointError(
          f"{self._place(step)} has format {meta['format']}, this version "
          f"reads {FORMAT}; use the version that wrote it")
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
      self._compare(step, item, found, tree)
    return self._restore(step, {
        item: ocp.args.StandardRestore(jax.tree.map(_placed, tree))
        for item, tree in like.items()})

  def has(self, step, item):
    """Whether that item was saved at `step`."""
    self._require(step)
    return os.path.isdir(os.path.join(self._folder, str(step), item))

  def tree(self, step, item):
    """Shapes of a saved item, as nested dicts of jax.ShapeDtypeStruct."""
    self._require(step)
    with self._reading(step):
      stored = self._manager.item_metadata(step)[item].tree
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), stored)

  def close(self):
    """Waits until everything is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()
    if not self._read_only:
      self._empty_trash()

  def _empty_trash(self):
    shutil.rmtree(os.path.join(self._folder, TRASH), ignore_errors=True)

  def _place(self, step):
    return os.path.join(self.workdir, "checkpoints", str(step))

  def _require(self, step):
    steps = sorted(self._manager.all_steps())
    if step not in steps:
      raise errors.CheckpointError(
          f"{self.workdir} holds no finished step {step}; it has "
          f"{steps or 'none'}")

  def _restore(self, step, arguments):
    with self._reading(step):
      found = self._manager.restore(step, args=ocp.args.Composite(**arguments))
    return {item: found[item] for item in arguments}

  @contextlib.contextmanager
  def _reading(self, step):
    """Turns what goes wrong with the files of a step into our error."""
    try:
      yield
    except (OSError, KeyError, ValueError) as error:
      told = str(error) or type(error).__name__
      raise errors.CheckpointError(
          f"{self._place(step)} cannot be read ({told.splitlines()[0][:160]}); "
          "remove that folder to fall back to an earlier step") from error

  def _compare(self, step, item, stored, wanted):
    have = {name: (tuple(x.shape), str(x.dtype))
            for name, x in _flat(stored).items()}
    want = {name: (tuple(x.shape), str(x.dtype))
            for name, x in _flat(wanted).items()}
    missing = sorted(want.keys() - have.keys())
    extra = sorted(have.keys() - want.keys())
    differ = sorted(n for n in want.keys() & have.keys() if want[n] != have[n])
    if not missing + extra + differ:
      return
    first = (missing + differ + extra)[0]
    raise errors.CheckpointError(
        f"{self._place(step)}/{item}: {len(missing)} of {len(want)} arrays "
        f"missing, {len(differ)} of another shape or type, {len(extra)} "
        f"unknown. First: {first}, checkpoint {have.get(first, 'nothing')}, "
        f"this run {want.get(first, 'nothing')}; use the config that the "
        "checkpoint was trained with")


def split_source(source):
  """"DIR@STEP" -> (DIR, STEP); "DIR" -> (DIR, None)."""
  folder, _, step = source.rpartition("@")
  return (folder, int(step)) if folder and step.isdigit() else (source, None)


def check_config(workdir, saved, now):
  """Refuses to go on with a run under another config.

  Args:
    saved, now: flat {"a.b": value} of the run there and of this one.

  Raises:
    ResumeError: naming the first key outside FREE whose values differ.
  """
  for key in [*now, *(k for k in saved if k not in now)]:
    old, new = saved.get(key, "absent"), now.get(key, "absent")
    if key.startswith(FREE) or old == new:
      continue
    raise errors.ResumeError(
        f"{workdir} holds a run of another config: {key} is {old!r} there and "
        f"{new!r} here; use another --workdir, or go on with "
        f"--config.{key}={old}")


def _flat(tree):
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"): x
          for path, x in leaves}


def _placed(x):
  place = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(
      jax.devices()[0])
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
