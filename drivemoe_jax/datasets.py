"""From a configuration to its data: windows, statistics, weights, batches."""

import dataclasses
import io
import os
import zipfile

import jax
import numpy as np

from data_pipeline import (
  bench2drive,
  errors,
  loader,
  normalize,
  order,
  prepared,
  spec,
  writing,
)
from data_pipeline import options as options_lib
from data_pipeline import windows as windows_lib
from drivemoe_jax import build, checkpoint, meshes, resume
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import yardsticks
from drivemoe_jax.models import drivemoe

# Settings of data.record in which one round of recording differs from another.
ROUND = ("learner", "first_seed", "train_seeds", "val_seeds")
# Class counts that a config may leave to the data.
COUNTS = ("loss.camera_counts", "loss.skill_counts")


def data_folder(config, workdir):
  """Where `{data}` of the data paths points: this run's recorded routes, or
  those of the run that it starts from and that it does not record more of."""
  theirs = _recorded(config)
  if theirs and not config.data.record.get("learner"):
    return theirs
  return os.path.join(workdir, "data")


def _recorded(config):
  """Folder of the routes that the run at init_from recorded, or None."""
  source = checkpoint.split_source(config.init_from or "")[0]
  theirs = os.path.join(source, "data")
  there = source and os.path.isfile(os.path.join(theirs, "dataset.json"))
  return theirs if there else None


def record(config, workdir, progress=None, driven=None):
  """Records the embedded world's routes if the config says so; idempotent.

  Args:
    driven: has the run at init_from drive where data.record.learner asks for
      it, as launch.closed_loop.drives_of does; that run's routes are taken
      over, too.

  Raises:
    ConfigError: nobody is there to learn from; the routes of the run at
      init_from are used, and others asked for.
  """
  r = config.data.record
  if not r or "{data}" not in config.data.root:
    return
  from data_pipeline.miniworld import handover, names, recorder
  folder, theirs = data_folder(config, workdir), _recorded(config)
  if folder == theirs:
    _check_same(config)
    return
  first, kinds = r.get("first_seed", 0), tuple(r.get("scenarios", ()))
  kinds = names.TYPES if kinds == ("all",) else kinds
  size, workers = (r.width_px, r.height_px), config.data.workers
  seeds, drives = range(first, first + r.train_seeds), None
  if r.get("learner"):
    if not theirs or not driven or jax.process_count() > 1:
      raise errors.ConfigError(
          "data.record.learner: the run at init_from goes on driving, on one "
          "host, beside the routes that it recorded; set "
          "--config.init_from=WORKDIR, or record with launch.record --learner")
    drives = driven(
        config.init_from, handover.scenes(kinds or names.FIRST, seeds), size,
        recorder.QUALITY, workers, progress)
  val = recorder.VAL_SEED
  recorder.record(
      folder, kinds, seeds=seeds, val_seeds=range(val, val + r.val_seeds),
      size=size, max_frames=r.max_frames,
      val_max_frames=r.get("val_max_frames"),
      handover_frames=r.get("handover_frames", 0), drives=drives,
      base=theirs, workers=workers, progress=progress)


def _check_same(config):
  """Refuses other routes than those of the run that this one starts from."""
  source = checkpoint.split_source(config.init_from)[0]
  theirs, ours = (
      {key: value for key, value in c.data.record.to_dict().items()
       if key not in ROUND} for c in (build.load_config(source), config))
  if theirs != ours:
    raise errors.ConfigError(
        f"this run uses the routes of {source}, which was recorded with other "
        f"data.record ({errors.differing(theirs, ours)}); leave it as there")


def options(config):
  """options.Options: which of the release's oddities the run repeats."""
  d = config.data
  return options_lib.OFFICIAL if d.official_parity else options_lib.Options(
      **{f.name: d[f.name] for f in dataclasses.fields(options_lib.Options)})


def windows(config, workdir, split):
  """All samples of "train" or "val", of raw or of prepared routes."""
  d = config.data
  place = lambda path: path and path.replace(
      "{data}", data_folder(config, workdir))
  root, val_list = place(d.root), place(d.val_list)
  ways = ({"val_list": val_list} if val_list else
          {"val_fraction": d.val_fraction, "seed": config.seed})
  data = prepared.Prepared(root) if prepared.is_prepared(root) else None
  names = data.names() if data else bench2drive.list_routes(root)
  train, val = bench2drive.split(names, **ways)
  chosen = {"train": train, "val": val}[split]
  o = options(config)
  kw = dict(
      history=config.model.history, horizon=config.model.horizon,
      on_bad_record=d.on_bad_record, skip_cap=d.skip_cap,
      wrap_theta=o.wrap_theta, nan_heading=o.nan_heading,
      drop_current_point=o.drop_current_point)
  if data:  # its labels are in the records
    found = data.collect(chosen, **kw)
  else:
    found = windows_lib.collect(
        root, place(d.labels_root) or None, chosen, **kw)
  if split == "train" and d.whole_past:
    return windows_lib.with_whole_past(found)
  return found


def statistics(config, workdir, train, *, save=True, own=True):
  """Normalisation of this run: its own file, its source's, or computed.

  Args:
    train: training windows. save: write them to the working directory.
    own: whether a file that is there is the run's; else a failed start may
      have left it behind, and other numbers are refused.

  Raises:
    DataError: a file of another horizon, of other plans or of no run.
  """
  ours = os.path.join(workdir, "statistics.json")
  source = config.init_from and os.path.join(
      checkpoint.split_source(config.init_from)[0], "statistics.json")
  stated = config.data.statistics
  there = lambda path: path == normalize.OFFICIAL or os.path.isfile(path)
  if stated and not there(stated) and not (own and there(ours)):
    raise errors.DataError(
        f"no statistics at {stated}; leave data.statistics empty to compute "
        "them from the training windows, or to take those of init_from")
  for path in (ours if own else None, stated, source):
    if path and there(path):
      found = normalize.load(
          path, config.model.horizon,
          any_horizon=options(config).statistics_any_horizon)
      found.check(train, path)
      break
  else:
    found = normalize.compute(train)
  if save:
    found.save(ours)
  return found


def check_fits(config, train):
  """Refuses a model that cannot tell these windows' classes and numbers apart.

  Raises:
    ConfigError: labels that a router is to learn from and that are not there,
      or that it has no class for; class counts of other classes.
  """
  m, loss = config.model, config.loss
  for name, given in (("num_views", len(spec.IMAGES) - drivemoe.FRONTS),
                      ("proprio_dim", train.proprio.shape[-1]),
                      ("action_dim", train.action.shape[-1])):
    if m[name] != given:
      raise errors.ConfigError(f"model.{name} {m[name]}: the data has {given}")
  for name, size, there, classes in (
      ("camera", "num_views", m.view == "dynamic", spec.Camera),
      ("skill", "skill_experts", m.moe_layers > 0, spec.Skill)):
    labels, counts = getattr(train, name), loss[f"{name}_counts"]
    if not there:
      continue
    if counts and len(counts) != len(classes):
      raise errors.ConfigError(f"loss.{name}_counts holds {len(counts)} "
                               f"numbers, there are {len(classes)} classes")
    if labels is None and (loss[name] or config[f"{name}_choice"] == "label"):
      raise errors.ConfigError(
          f"loss.{name} {loss[name]:g} and {name}_choice "
          f"{config[f'{name}_choice']!r}, but the data has no {name} labels; "
          f"give data.labels_root, or set loss.{name}=0 and another choice")
    if labels is not None and labels.max(initial=0) >= m[size]:
      raise errors.ConfigError(
          f"model.{size} {m[size]}: the data's {name} labels go to "
          f"{labels.max()}; {len(classes)} tell them all apart")


def with_counts(config, train):
  """The config with the class counts of `train` where it states none."""
  c = config.copy_and_resolve_references()
  for name, classes, labels in (
      ("camera_counts", spec.Camera, train.camera),
      ("skill_counts", spec.Skill, train.skill)):
    if not c.loss[name] and labels is not None:
      count = np.bincount(labels, minlength=len(classes)).tolist()
      c.loss[name] = tuple(count)
  return c.lock()


def views(config):
  """Candidate views that training looks at, as loader.train_batches wants."""
  if config.model.view != "dynamic":
    return tuple(config.model.view)
  return "label" if config.camera_choice == "label" else None


def weights(config, workdir, train, fit=True):
  """order.Weights of the training windows, or None where all count alike.

  Args:
    fit: whether a surprise that is not known yet is fitted, see `_surprise`.
  """
  d, found = config.data, []
  if d.skill_balance:
    found.append(order.balanced(train.skill, d.skill_balance))
  if d.keyframes:
    found.append(order.keyframes(_surprise(workdir, train, fit), d.keyframes))
  return order.product(found) if found else None


def _surprise(workdir, train, fit):
  """yardsticks.surprise of the windows [M], from WORKDIR/surprise.npz.

  Fitted once in a run: on another machine the fit comes out a little
  otherwise, and the windows would be dealt in another order from there on.

  Raises:
    CheckpointError: not to be fitted here, and not there; or broken.
  """
  path = os.path.join(workdir, "surprise.npz")
  data = resume.fingerprint(train)["windows"]
  if os.path.exists(path):
    try:
      with np.load(path) as file:
        known, values = str(file["windows"]), file["surprise"]
    except (OSError, EOFError, KeyError, ValueError,
            zipfile.BadZipFile, RuntimeError) as error:
      raise errors.CheckpointError(
          f"{path} is broken ({error}); remove it, and it is fitted anew: the "
          "windows that follow may then be other ones") from None
    if known == data and values.shape == (len(train),):
      return values
  if not fit:
    raise errors.CheckpointError(
        f"{path} of these windows is not there; process 0 has written it, so "
        "the hosts do not share the working directory")
  values = yardsticks.surprise(train)
  held = io.BytesIO()
  np.savez(held, surprise=values, windows=data)
  writing.put(path, held.getvalue())
  return values


def train_batches(config, train, stats, start_step, dealt):
  """This host's endless batches from `start_step` on; dealt: weights()."""
  d = config.data
  mesh = meshes.make_mesh(build.mesh_sizes(config))
  return loader.train_batches(
      train, stats, batch_size=config.global_batch, seed=config.seed,
      image_size=config.model.image_size, prompt_ids=config.prompt_ids,
      text_len=config.model.text_len, start_step=start_step,
      augment=d.augment, rows=steps.local_rows(mesh, config.global_batch),
      weights=dealt, views=views(config),
      tf_shared_seed=options(config).tf_shared_seed,
      on_bad_record=d.on_bad_record, skip_cap=d.skip_cap,
      ram_budget_gb=d.ram_budget_gb, workers=d.workers)
