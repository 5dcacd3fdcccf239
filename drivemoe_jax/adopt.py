"""Takes a step that was copied by hand into a run, once it is proved whole.

Copies lose the rename by which a finished save is known. So every array is
read and held against the run's config before the step gets its name; then it
is listed and renamed, and counts like one of the run's own.
"""

import os
import shutil

import jax
import numpy as np

from data_pipeline import errors, schema
from drivemoe_jax import build, checkpoint, fit, resume, stepfolders
from drivemoe_jax import step as steps
from drivemoe_jax.weights import store

PIECE = 1 << 24  # elements looked at together


def adopt(workdir, path):
  """Makes a copied step folder a step of a run; `path` is left as it is.

  Args:
    workdir: the run. path: a folder like WORKDIR/checkpoints/400, by any name;
      a step that lies in its place already is completed there.

  Returns:
    (step, number of arrays, bytes).

  Raises:
    CheckpointError: what is wrong with it; then nothing was changed.
    StorageError: it cannot be copied to the run.
  """
  config = build.load_config(workdir)
  meta = stepfolders.read_json(os.path.join(path, stepfolders.META))
  if schema.fault(meta, {"step": schema.count, "format": int,
                         "config": schema.Each(lambda value: True)}):
    raise errors.CheckpointError(
        f"{path} holds no readable {stepfolders.META}; name the folder of one "
        "step, and copy it again if that file is missing")
  step = meta["step"]
  folder = os.path.join(os.path.abspath(workdir), "checkpoints")
  target = os.path.join(folder, str(step))
  here = os.path.realpath(path) == os.path.realpath(target)
  if os.path.isdir(target) and not (here and stepfolders.fault(target)):
    raise errors.CheckpointError(
        f"{target} is there already ({stepfolders.fault(target) or 'whole'}); "
        "move it away to adopt another, or adopt it itself if it is not whole")
  _check_run(path, meta, config)
  count = _check_arrays(path, config)
  try:
    if here:
      stepfolders.write_list(target)
    else:
      _copy(path, target)
  except OSError as error:
    raise errors.StorageError(
        f"{path} could not be copied to {target} "
        f"({checkpoint.cause(error)}); free space there or make it "
        "writable") from error
  return step, count, stepfolders.bytes_of(target)


def _check_run(path, meta, config):
  """Refuses a step of another format or another run, or a cut copy."""
  stepfolders.check_format(path, meta)
  resume.check_config(path, build.flatten(build.saved_config(meta)),
                      build.flatten(config))
  if os.path.isfile(os.path.join(path, stepfolders.LIST)):
    fault = stepfolders.fault(path)
    if fault:
      raise errors.CheckpointError(f"{path}: {fault}; copy it again")


def _check_arrays(path, config):
  """Reads every array; returns their number."""
  model = build.model(config)
  tx = build.optimizer(config, steps.param_shapes(model))
  wanted = steps.as_items(steps.state_shapes(model, tx), {})
  header = stepfolders.read_json(os.path.join(path, stepfolders.HEADER)) or {}
  count = 0
  for item in checkpoint.TREES:
    place = os.path.join(path, item)
    expected = bool(jax.tree.leaves(wanted[item])) or (
        item in header.get("item_handlers", {}))
    if not expected and not os.path.isdir(place):
      continue
    if not store.is_store(place):
      raise errors.CheckpointError(
          f"{place} is missing or cut; copy {path} again")
    found = store.tensors_of(place)
    if jax.tree.leaves(wanted[item]):
      fit.compare(
          place, {name: (x.shape, str(x.dtype)) for name, x in found.items()},
          fit.flat(wanted[item]))
    for name, tensor in found.items():
      _check_array(f"{place}, {name}", tensor)
    count += len(found)
  return count


def _check_array(place, tensor):
  try:
    values = np.ravel(tensor.rows())
  except (ValueError, OSError) as error:
    raise errors.CheckpointError(
        f"{place} cannot be read ({checkpoint.cause(error)}); copy it "
        "again") from error
  if np.issubdtype(values.dtype, np.integer):
    return
  for start in range(0, len(values), PIECE):
    if not np.isfinite(values[start:start + PIECE]).all():
      raise errors.CheckpointError(
          f"{place} holds numbers that are not finite; adopt another step")


def _copy(path, target):
  """Copies under another name, lists, renames."""
  folder, name = os.path.split(target)
  temporary = os.path.join(folder, f".adopting-{name}")
  os.makedirs(folder, exist_ok=True)
  shutil.rmtree(temporary, ignore_errors=True)  # of an adoption that was cut
  try:
    shutil.copytree(path, temporary)
    stepfolders.write_list(temporary)
    os.rename(temporary, target)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
