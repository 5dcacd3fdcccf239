"""The config.json of a run, checked against the settings that there are.

A run of an earlier version lacks settings that came later: they take their
defaults, which train as that version did. A setting that is unknown here is of
a later version, whose run this one would not understand.
"""

import math
import os

import ml_collections

from configs import common
from data_pipeline import errors, reading
from drivemoe_jax import flow, losses
from drivemoe_jax.models import drivemoe

# The world that a run records is described by its config alone.
OPEN = "data.record."
# A setting that is a word or a list of views.
EITHER = {"model.view": (str, tuple)}
MOST = 2**53  # of any whole number
WORDS = {"camera_choice": drivemoe.CAMERA_CHOICES,
         "skill_choice": drivemoe.SKILL_CHOICES,
         "loss.skill_level": losses.SKILL_LOSSES,
         "flow.time_sampling": flow.TIME_SAMPLINGS}
# Counts of which there is no none.
COUNTS = ("global_batch", "log_every", "save_every", "data.workers",
          "flow.steps", "optim.cycle_updates", "max_skipped")

# How much more often some windows come: {key: at most}.
STRENGTHS = {"data.skill_balance": 1, "data.keyframes": 1000}


def load(workdir):
  """ConfigDict of the run in a folder, locked.

  Raises:
    CheckpointError: no config.json, a broken one, or one of a later version.
  """
  path = os.path.join(workdir, "config.json")
  values = reading.json_file(
      path, f"{workdir} is no finished start of a training run",
      errors.CheckpointError)
  default = common.get_config()
  try:
    found = from_json(values)
    flat = common.flatten(found)
  except (AttributeError, TypeError, KeyError, ValueError,
          RecursionError) as error:
    raise _broken(path, f"{type(error).__name__}: {error}") from None
  known = common.flatten(default)
  for key, value in flat.items():
    if key.startswith(OPEN):
      continue
    if key not in known:
      raise errors.CheckpointError(
          f"{path} has the setting {key!r}, which this version does not know: "
          "a later one wrote it; use that version")
    wanted = _kinds(default, key, known[key])
    if type(value) not in wanted or not _sane(value):
      raise _broken(path, f"{key} is {value!r:.80}, want "
                    + " or ".join(kind.__name__ for kind in wanted))
  return completed(found)


def completed(found):
  """A saved config, locked; settings that came later have their defaults."""
  config = common.get_config().unlock()
  with config.ignore_type():
    config.update(found)
  return config.lock()


def check(config):
  """Refuses settings that no part of a run could mean anything by.

  Sizes that contradict each other are the model's and the mesh's to tell.

  Raises:
    ConfigError: names the setting and what it may be.
  """
  flat = common.flatten(config)
  for key, value in common.flatten(common.get_config()).items():
    if value is not None and key in flat and flat[key] is None:
      raise errors.ConfigError(f"{key} is null; write a value like {value!r}")
  for key, known in WORDS.items():
    if flat[key] not in known:
      raise errors.ConfigError(
          f"{key} {flat[key]!r}; known: {', '.join(known)}")
  for key in COUNTS:
    if flat[key] < 1:
      raise errors.ConfigError(f"{key} {flat[key]}: must be 1 or more")
  if flat["optim.clip_norm"] <= 0:
    raise errors.ConfigError(f"optim.clip_norm {flat['optim.clip_norm']}: must "
                             "be above 0; a large one clips nothing")
  for key, most in STRENGTHS.items():
    if not 0 <= flat[key] <= most:
      raise errors.ConfigError(f"{key} {flat[key]}: must be 0 to {most}")


def from_json(values):
  """ConfigDict of JSON, whose lists were tuples."""
  def convert(x):
    if isinstance(x, dict):
      return from_json(x)
    return tuple(x) if isinstance(x, list) else x
  return ml_collections.ConfigDict({k: convert(v) for k, v in values.items()})


def _broken(path, why):
  return errors.CheckpointError(
      f"{path} is no config of a run ({why}); copy it again from where it is "
      "whole")


def _kinds(default, key, value):
  """Types that a setting may have."""
  *parents, leaf = key.split(".")
  for name in parents:
    default = default[name]
  kinds = list(EITHER.get(key, (default.get_type(leaf),)))
  if float in kinds:
    kinds.append(int)
  return [*kinds, type(None)] if value is None else kinds


def _sane(value):
  """Whether numbers are finite and of a size that a setting may have."""
  if isinstance(value, tuple):
    return all(type(x) in (int, float, str) and _sane(x) for x in value)
  if isinstance(value, (int, float)):
    return math.isfinite(value) and abs(value) < MOST
  return True
