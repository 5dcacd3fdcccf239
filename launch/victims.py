"""Three commands in miniature, as `launch.soak` sees them from outside.

Each tells from files alone how far a process has come, where it was when it
was killed, which of its outputs look finished, and what those hold.
"""

import hashlib
import importlib
import json
import os

from drivemoe_jax import stepfolders
from launch import forks

# A model as small as it gets.
MODEL = dict(
    vision_width=16, vision_layers=1, vision_heads=2, vision_mlp=16,
    image_size=14, patch_size=7, vlm_width=16, vlm_mlp=32, expert_width=16,
    expert_mlp=32, layers=2, heads=2, head_dim=8, moe_layers=1, camera_heads=2,
    camera_hidden=8)
TRAINING = {f"model.{key}": x for key, x in MODEL.items()} | {
    "total_updates": 24, "global_batch": 4, "per_device_batch": 4,
    "log_every": 1, "save_every": 2, "data.augment": True}
CLOCKED = ("time", "samples_per_second", "step_seconds", "data_wait_share",
           "host_memory_gb", "warnings")  # what belongs to one process
TREES = ("params", "optimizer", "carried")


class Victim:
  """A command that is started again after each kill.

  Class attributes:
    kind, module: its name and what to run. moments: {when to kill: weight}.
  """

  module: str
  _last: str

  def __init__(self, folder, argv):
    """folder: its output. argv: of the command, `argv` from then on."""
    self.folder, self.argv = folder, argv
    os.makedirs(os.path.dirname(folder), exist_ok=True)

  def start(self, fresh):
    """A forks.Child at work; `fresh`: with an interpreter of its own."""
    log = self.folder + ".log"
    if fresh:
      return forks.command(self.module, self.argv, log)
    main = importlib.import_module(self.module).main
    return forks.fork(lambda: main(self.argv), log)

  def went_on(self, child, before) -> bool:
    """Whether a restarted process took up all that was finished before."""
    return True

  def same(self, found, twin):
    """Whether what is finished is what the twin's end holds."""
    return found == twin

  def good(self):
    """How much is finished: a number that must never fall."""
    return int(os.path.exists(self._last))


class Training(Victim):
  """A few updates, a save after every second one."""

  kind, module = "train", "launch.train"
  moments = {"start": 1, "compile": 1, "steps": 4, "save": 4}

  def __init__(self, folder, data, cache, keep_last=1):
    changes = TRAINING | {
        "data.root": f"{data}/routes", "data.labels_root": data,
        "data.val_list": f"{data}/val_routes.txt", "keep_last": keep_last,
        "compile_cache": cache}
    super().__init__(folder, [
        "--config", str(forks.ROOT / "configs" / "tiny.py"), "--workdir",
        folder, *(f"--config.{key}={x}" for key, x in changes.items())])
    self._steps = os.path.join(folder, "checkpoints")

  def phase(self, child):
    if "compile cache:" not in child.said():
      return "compile" if _begun(child) else "start"
    saving = os.path.exists(os.path.join(self._steps, stepfolders.JOURNAL))
    return "save" if saving else "steps"

  def good(self):
    return max(stepfolders.finished(self._steps), default=0)

  def went_on(self, child, before):
    """Whether a restarted process took up all that was finished before."""
    return (not before or not _begun(child)
            or f"resume: step {before}," in child.said())

  def same(self, found, twin):
    return all(twin.get(what) == digest for what, digest in found.items())

  def finished(self):
    """{what: digest} of the newest finished step, None without one."""
    step = self.good()
    return {f"step {step}": self._digest(step)} if step else None

  def end(self):
    """{what: digest} of the run's end, and of all steps that are left."""
    found = {f"step {step}": self._digest(step)
             for step in stepfolders.finished(self._steps)}
    with open(os.path.join(self.folder, "metrics.jsonl"),
              encoding="utf-8") as file:
      lines = [{key: x for key, x in json.loads(line).items()
                if key not in CLOCKED} for line in file]
    return found | {
        "metrics": _sha256(json.dumps(lines).encode()),
        "updates": len(lines),
        "statistics": _file(os.path.join(self.folder, "statistics.json")),
        "leftovers": [name for name in os.listdir(self._steps)
                      if not name.isdigit()]}

  def _digest(self, step):
    """One digest of all arrays of a step."""
    from drivemoe_jax import checkpoint
    saved = checkpoint.Checkpoints(self.folder, read_only=True)
    whole = hashlib.sha256()
    for item in TREES:
      if saved.has(step, item):
        for name, tensor in sorted(saved.arrays(step, item).items()):
          whole.update(f"{item}/{name}{tensor.shape}".encode())
          whole.update(tensor.rows().tobytes())
    return whole.hexdigest()[:16]


class Prepare(Victim):
  """A few routes to shards, index, statistics and manifest."""

  kind, module = "prepare", "launch.prepare"
  moments = {"start": 1, "staging": 4, "packing": 5}

  def __init__(self, folder, data):
    super().__init__(folder, [
        "--root", f"{data}/routes", "--labels", data, "--val-list",
        f"{data}/val_routes.txt", "--out", folder, "--size", "32",
        "--encoding", "png", "--horizons", "5", "10", "--frames-per-shard",
        "20", "--workers", "1"])
    self._last = os.path.join(folder, "manifest.json")

  def phase(self, child):
    said = child.said()
    if "prepare: packing" in said:
      return "packing"
    return "staging" if "to do; estimate" in said else "start"

  def finished(self):
    """{file: digest} of the folder if its manifest says it is whole."""
    if not self.good():
      return None
    return {path: digest for path, digest in self.end().items()
            if not path.startswith("stage" + os.sep)}

  def end(self):
    return {path: digest for path, digest in _tree(self.folder).items()
            if path != ".lock"}


class Export(Victim):
  """A trained run to one weight file."""

  kind, module = "export", "launch.convert"
  moments = {"start": 1, "writing": 9}

  def __init__(self, folder, run, suffix):
    self._last = os.path.join(folder, "weights" + suffix)
    self._left = None
    super().__init__(folder, ["--source", run, "--target", self._last])

  def start(self, fresh):
    self._left = self._partial()
    return super().start(fresh)

  def phase(self, child):
    return "start" if self._partial() in (None, self._left) else "writing"

  def _partial(self):
    """Which half-written file lies there, None without one."""
    try:
      found = os.stat(self._last + ".partial")
    except FileNotFoundError:
      return None
    return found.st_ino, found.st_mtime_ns

  def finished(self):
    if not self.good():
      return None
    return {path: digest for path, digest in self.end().items()
            if not path.endswith(".partial")}

  def end(self):
    return _tree(self.folder)


def _begun(child):
  """Whether a training has told where it begins."""
  said = child.said()
  return said.startswith(("start:", "resume:")) or (
      "\nstart:" in said or "\nresume:" in said)


def _tree(folder):
  """{path: sha256} of all files below a folder."""
  return {os.path.relpath(path, folder): _file(path)
          for where, _, names in os.walk(folder)
          for path in (os.path.join(where, name) for name in sorted(names))}


def _file(path):
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _sha256(data):
  return hashlib.sha256(data).hexdigest()[:16]
