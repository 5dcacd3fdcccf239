"""One row: train, evaluate, drive, probe; then its raw file.

  WORKDIR/data                 recorded once, read by every row
  WORKDIR/yardsticks/<name>    driven once
  WORKDIR/runs/<row>           an ordinary run folder, with log.txt and
                               step_*.json, what each finished step found
  WORKDIR/rows/<row>.json      the raw file, written last

Every part goes on where it was killed, so the whole does.
"""

import json
import os
import platform
import shutil
import subprocess
import time

from data_pipeline import errors, masking, reading, writing
from data_pipeline.miniworld import drivers, names
from drivemoe_jax import build, datasets
from drivemoe_jax.evaluators.ablation import store
from drivemoe_jax.evaluators.bench2drive import records
from launch import cli
from launch.ablate import budget, children

KEPT = ("n", "ade", "fde", "per_skill")


class Maker:
  """Makes rows of one set of settings."""

  def __init__(self, args, say):
    self._args, self._say, self._root = args, say, args.workdir
    self._source, _, self._argument = args.config.partition(":")
    base = cli.load_config(args.config, args.overrides)
    self.settings = {
        "config": store.digest(_plain(base)), "minutes": args.minutes,
        "updates": args.updates, "episodes": args.episodes,
        "windows": args.limit, "scenes": args.scenes, "samples": args.samples}
    self._base = base

  def prepare(self):
    """Records the data and finds the budget."""
    say = lambda done, total, name: self._say(
        f"record: {done}/{total} routes, {name}")
    datasets.record(self._base, self._root, say)
    if self._args.updates:
      self._budget = {"updates": self._args.updates, "minutes": None,
                      "device": device(), "seconds_per_update": None}
      return
    wanted = {key: self.settings[key] for key in ("config", "minutes")}
    self._budget = budget.find(self._root, wanted, device(), self._flags,
                               self._say)

  def __call__(self, row):
    """Makes a row unless it is finished; refuses one of other settings."""
    known = store.read(self._root, row.name)
    if known:
      store.check(
          store.path(self._root, row.name), store.made_under(known),
          self.settings | {"updates": self._budget["updates"]})
      return
    folder = os.path.join(self._root, "runs", row.name)
    os.makedirs(folder, exist_ok=True)
    steps = (("train", self._train), ("evaluate", self._evaluate),
             ("drive", self._drive), ("probe", self._probe))
    found, took = {}, {}
    for name, step in steps:
      done = self._once(row, folder, name, step)
      found |= done["found"]
      took[name] = done["seconds"]
    run = build.load_config(folder)
    store.write(self._root, row.name, {
        "variant": row.variant.name, "seed": row.seed,
        "settings": self.settings, "budget": self._budget,
        "config_sha256": store.digest(_plain(self._config(row))),
        "commit": commit(), "device": device(), "wall_seconds": took,
        "updates": run.total_updates,
        "samples_seen": run.total_updates * run.global_batch, **found})

  def _once(self, row, folder, name, step):
    """What a step found and how long it took; a finished one is only read."""
    path = os.path.join(folder, f"step_{name}.json")
    if not os.path.exists(path):
      self._say(f"{row.name}: {name}")
      start = time.monotonic()
      found = step(row, folder)
      writing.put(path, json.dumps(
          {"found": found, "seconds": round(time.monotonic() - start, 1)},
          allow_nan=False))
    return _read(folder, os.path.basename(path))

  def _flags(self, row, updates, folder):
    """Flags of launch.train for a row."""
    return ["--config", self._path(row), "--workdir", folder,
            *self._overrides(row, updates),
            *(f"--config.data.{key}={value}" for key, value in self._data())]

  def _path(self, row):
    argument = ",".join(filter(None, (self._argument, row.variant.argument)))
    return f"{self._source}:{argument}"

  def _overrides(self, row, updates):
    return [*self._args.overrides,
            *(f"--config.{change}" for change in row.variant.overrides),
            *budget.schedule(updates), f"--config.seed={row.seed}"]

  def _config(self, row):
    """The row's config, free of this machine's folders."""
    return cli.load_config(self._path(row), self._overrides(
        row, self._budget["updates"]))

  def _data(self):
    """Keys of the data that all rows share."""
    place = os.path.join(self._root, "data")
    return [(key, self._base.data[key].replace("{data}", place))
            for key in ("root", "labels_root", "val_list")]

  def _run(self, folder, module, *args):
    return children.run(module, *args, log=os.path.join(folder, "log.txt"))

  def _train(self, row, folder):
    updates = self._budget["updates"]
    peak = self._run(folder, "launch.train",
                     *self._flags(row, updates, folder))
    return {"training_bytes": peak,
            "training_seconds": budget.training_seconds(folder)}

  def _evaluate(self, row, folder):
    limit = ["--limit", self._args.limit] if self._args.limit else []
    self._run(folder, "launch.evaluate", "--workdir", folder, *limit)
    said = _read(folder, "evaluation.json")
    routers = {name: part and {key: part[key] for key in (
        "n", "accuracy", "macro_f1")} for name, part in said["routers"].items()}
    return {"open_loop": {key: said["open_loop"][key] for key in KEPT},
            "routers": routers}

  def _drive(self, row, folder):
    self._share_yardsticks(folder)
    self._run(folder, "launch.evaluate", "--workdir", folder, "--closed-loop",
              "--episodes", self._args.episodes, "--workers",
              self._args.workers)
    said = _read(folder, "closed_loop.json")
    name = f"model-{said['checkpoint_step']}"
    entries = _read(folder, os.path.join("closed_loop", name, "results.json"))
    return {"closed_loop": _scores(said["drivers"].pop("model")),
            "yardsticks": {who: _scores(part)
                           for who, part in said["drivers"].items()},
            "episodes": [_episode(e) for e in
                         entries["_checkpoint"]["records"]]}

  def _share_yardsticks(self, folder):
    """Links the drives of those that have nothing to do with the row."""
    place = os.path.join(folder, "closed_loop")
    os.makedirs(place, exist_ok=True)
    for name in drivers.YARDSTICKS:
      shared = os.path.join(self._root, "yardsticks", name)
      os.makedirs(shared, exist_ok=True)
      if not os.path.lexists(os.path.join(place, name)):
        os.symlink(os.path.relpath(shared, place), os.path.join(place, name))

  def _probe(self, row, folder):
    self._run(folder, "launch.ablate.probe", folder, self._args.scenes,
              self._args.samples)
    return _read(folder, "probe.json")


def _plain(config):
  """A config as JSON would hold it."""
  return masking.mask(config.to_dict())


def _read(folder, name):
  return reading.json_file(os.path.join(folder, name),
                           "remove the run's folder and start again")


def _scores(part):
  """Of a closed-loop summary what the page needs."""
  return {key: part[key] for key in (
      "driving_score", "success_rate", "completion", "per_skill")} | {
          "infractions": {kind: found["total"] for kind, found
                          in part["infractions"].items() if found["total"]}}


def _episode(entry):
  """[type, seed, score, success] of a drive."""
  record = records.record_of(entry)
  return [names.kind_of(record.number), int(record.number[-6:]),
          record.composed, record.success]


def commit():
  """The checkout's commit, with a plus where files were changed, or None."""
  git = shutil.which("git")
  if not git:
    return None
  root = os.path.dirname(os.path.dirname(os.path.dirname(
      os.path.abspath(__file__))))
  say = lambda *args: subprocess.run(
      [git, "-C", root, *args], capture_output=True, text=True).stdout.strip()
  if not say("rev-parse", "HEAD"):
    return None
  changed = say("status", "--porcelain", "--untracked-files=no")
  return say("rev-parse", "HEAD")[:12] + ("+" if changed else "")


def device():
  """What computed: the accelerator's name, or the processor's cores."""
  import jax  # after the flags were found right
  first = jax.devices()[0]
  return (f"CPU, {os.cpu_count()} cores, {platform.machine()}"
          if first.platform == "cpu" else first.device_kind)


def need_enough(args):
  """Refuses counts that make no row.

  Raises:
    ConfigError: names the flag.
  """
  for name in ("minutes", "updates", "episodes", "limit", "scenes", "samples",
               "workers"):
    value = getattr(args, name)
    if value is not None and value <= 0:
      raise errors.ConfigError(f"--{name} {value:g}: must be positive")
