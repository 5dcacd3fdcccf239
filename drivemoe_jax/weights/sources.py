"""Where a training run starts: weight files and other runs, and what each of
them cannot hold.

A source is PATH, RUN[@STEP] or either with `:PREFIX`, as big_vision's
`init_file="path.npz:img"`: then only that part is loaded.
"""

import dataclasses
import os
import re

import numpy as np

from data_pipeline import errors
from drivemoe_jax import checkpoint
from drivemoe_jax.weights import blocks, files, infer, names, read
from drivemoe_jax.weights.tensors import Tensor

_EXPERTS = r"expert/action/layers/\w+/moe/.*"
_VIEWS = r"router/.*|view_embedding"
# What a kind of source lacks or has too many, by its nature: these start
# fresh or are left out without being asked for, and are told all the same.
BY_NATURE = {
    "PaliGemma": read.Allowed(missing=rf"(expert|io)/.*|{_VIEWS}"),
    "Drive-pi0": read.Allowed(
        missing=rf"{_EXPERTS}|{_VIEWS}|criterion\..*",
        extra=r"joint_model\.mixtures\.action\.layers\.\d+\.mlp\.\w+_proj"
        r"\.weight"),
    "pi0": read.Allowed(
        missing=rf"{_EXPERTS}|{_VIEWS}|io/.*|expert/.*/(gamma|beta)/.*"
        r"|expert/.*/(attn|mlp)_scale/.*",
        extra=r"(action_in_proj|action_out_proj|state_proj"
        r"|action_time_mlp_(in|out))/.*|.*_norm_1/scale"),
}


@dataclasses.dataclass(frozen=True)
class Source:
  """An opened source that fits a run as far as it tells.

  Attributes:
    path: without the prefix. only: the prefix, "" for all of it.
    file: files.File. carried: as from open_source.
    stage: of the run that it was checked for.
  """

  path: str
  only: str
  file: files.File
  carried: dict
  stage: int


def open_checked(source, *, stage, horizon, history):
  """Opens a source for a run of this stage, horizon and history.

  Raises:
    CheckpointError: no such source, or one of another.
  """
  path, only = split_prefix(source)
  file, carried = open_source(path)
  check_numbers(file, stage, horizon, history)
  return Source(path, only, file, carried, stage)


def load(source, like, shardings, *, missing="", extra=""):
  """Parameters that a run starts from.

  Args:
    source: as from open_checked.
    like, shardings: of the model's parameters.
    missing, extra: regexes of what may start fresh and be left out beyond
      BY_NATURE; see read.Allowed.

  Returns:
    read.Weights.

  Raises:
    CheckpointError: the source does not fit.
  """
  nature = (_nature(source.file, blocks.flatten(like)) if source.stage == 1
            else read.STRICT)
  both = lambda a, b: f"(?:{a})|(?:{b})" if a and b else a or b
  found = read.load(source.file, like, shardings, allowed=read.Allowed(
      both(nature.missing, missing), both(nature.extra, extra), source.only))
  if source.only and not found.params:
    raise errors.CheckpointError(
        f"{source.path} holds nothing under {source.only}; name a part of the "
        "model, as img")
  if not source.only:
    found.carried.update(source.carried)
  return found


def split_prefix(source):
  """"PATH:img" -> ("PATH", "img/"); without a prefix it is ""."""
  path, _, only = source.rpartition(":")
  if path and re.fullmatch(r"[\w/]+", only) and not os.path.exists(source):
    return path, only.strip("/") + "/"
  return source, ""


def open_source(path):
  """(files.File, {path: carried array}) of a weight file or of a run's step.

  Raises:
    CheckpointError: nothing there, or no weights.
  """
  folder, step = checkpoint.split_source(path)
  if os.path.isfile(os.path.join(folder, "config.json")) and os.path.isdir(
      os.path.join(folder, "checkpoints")):
    return _open_run(folder, step)
  return files.open_file(path), {}


def is_run(path):
  """Whether a source is a training folder, or a step of one."""
  folder, _ = checkpoint.split_source(path)
  return os.path.isdir(os.path.join(folder, "checkpoints"))


def config_of(path):
  """The config.json of a training folder, as a dict."""
  folder, _ = checkpoint.split_source(path)
  return files.read_json(os.path.join(folder, "config.json"))


def _open_run(folder, step):
  """A run's parameters under official names, so that any model can ask."""
  saved = checkpoint.Checkpoints(folder, read_only=True)
  step = saved.latest() if step is None else step
  if step is None:
    raise errors.CheckpointError(f"{folder} holds no finished checkpoint yet")
  place = os.path.join(folder, "checkpoints", str(step))
  found = saved.arrays(step, "params")
  shapes = {path: tensor.shape for path, tensor in found.items()}
  leaves = {path: _Whole(tensor) for path, tensor in found.items()}
  under = {}
  for entry in names.entries(shapes):
    tensor = Tensor(entry.shape, found[entry.pieces[0].path].dtype,
                    lambda start=0, stop=None, entry=entry:
                    entry.gather(leaves, start, stop), (place, entry.key))
    under |= dict.fromkeys((entry.key, *entry.aliases), tensor)
  for key, shape in names.alphas(shapes).values():  # a run has its config's
    under[key] = Tensor(shape, np.dtype(np.float32),
                        lambda start=0, stop=None, shape=shape:
                        np.zeros(shape, np.float32)[start:stop], (place, key))
  carried = {}
  if saved.has(step, "carried"):
    carried = {path: tensor.rows()
               for path, tensor in saved.arrays(step, "carried").items()}
  config = config_of(folder)
  meta = {"stage": config["stage"],
          "horizon_steps": config["model"]["horizon"],
          "cond_steps": config["model"]["history"]}
  return files.File(f"{folder}, step {step}", under, "official", meta,
                    infer.heads(shapes), shapes), carried


class _Whole:
  """Indexes a tensor that is read whole."""

  def __init__(self, tensor):
    self._tensor = tensor

  def __getitem__(self, at):
    return self._tensor.rows()[at]


def check_numbers(file, stage, horizon, history):
  """Refuses a source of another stage, horizon or history, if it tells.

  Raises:
    CheckpointError: naming both.
  """
  told = file.meta
  if stage == 2 and told.get("stage", 1) != 1:
    raise errors.CheckpointError(
        f"init_from {file.path} is of stage {told['stage']}; stage 2 starts "
        "from a stage 1 run or file")
  for name, key, ours in (("horizon_steps", "model.horizon", horizon),
                          ("cond_steps", "model.history", history)):
    if told.get(name, ours) != ours:
      raise errors.CheckpointError(
          f"init_from {file.path} has {name} {told[name]}, this run {key} "
          f"{ours}; set --config.{key}={told[name]} or start from another")


def _nature(file, model):
  if file.column in ("hf", "bv"):
    return BY_NATURE["PaliGemma"]
  if file.column == "pi0":
    return BY_NATURE["pi0"]
  expert = any(re.fullmatch(_EXPERTS, path) for path in model)
  if expert and not any("skill_experts" in key for key in file.tensors):
    return BY_NATURE["Drive-pi0"]
  return read.STRICT


def summary(weights, like):
  """Lines: what was loaded, starts fresh or was skipped, by component.

  Args:
    weights: as loaded. like: the tree that was asked for.
  """
  groups = {}
  for path, leaf in blocks.flatten(like).items():
    depth = 2 if path.startswith(("expert/", "router/")) else 1
    state = "fresh" if path in weights.fresh else "loaded"
    row = groups.setdefault(
        (state == "fresh", "/".join(path.split("/")[:depth])), [0, 0, 0])
    count = int(np.prod(leaf.shape))
    row[0] += 1
    row[1] += count
    row[2] += count * np.dtype(leaf.dtype).itemsize
  lines = [f"{'fresh' if fresh else 'loaded':8}{group:18}{n:4} leaves "
           f"{count:>14,} parameters {size:>15,} bytes"
           for (fresh, group), (n, count, size) in sorted(groups.items())]
  if weights.skipped:
    lines.append(f"skipped {len(weights.skipped)} tensors of the source: "
                 + read.listing(weights.skipped))
  return lines
