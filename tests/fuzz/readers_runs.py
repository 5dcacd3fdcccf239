"""Readers of run folders: checkpoints, configs, logs, other hosts."""

import io
import json
import os
import pathlib

import jax
import numpy as np

from data_pipeline import wire
from drivemoe_jax import (
    build,
    checkpoint,
    datasets,
    lines,
    policy,
    rendezvous,
    resume,
    stepfolders,
)
from drivemoe_jax.weights import sources
from launch import checkpoints as listing
from launch import cli
from tests import small_run
from tests.fuzz import edits
from tests.fuzz.trial import Reader

JSON = edits.Json()
TREES = {"params": {"a": {"b": np.arange(6, dtype="f").reshape(2, 3)},
                    "c": np.ones(4, "f")},
         "optimizer": {"count": np.zeros((), np.int32)}}
LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), TREES)
CONFIG = pathlib.Path(small_run.ROOT) / "configs" / "tiny.py"


def _run(folder):
  config = cli.load_config(str(CONFIG))
  saved = checkpoint.Checkpoints(str(folder))
  meta = {"config": config.to_dict(), "step": 3, "seed": 0, "stage": 1,
          "next_sample": 6, "healthy": True, "score": {"min:loss": 1.0},
          "data": {"windows": "x"}, "saved_on": {"hosts": 1, "devices": 1},
          "changes": [{"step": 1, "key": "seed", "from": 0, "to": 1}]}
  for step in (2, 3):
    saved.save(step, TREES, meta | {"step": step})
  saved.close()
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  (folder / "checkpoints" / ".saving").write_text(json.dumps(
      {"step": 4, "folder": os.stat(folder / "checkpoints").st_ino}))


def _small_files(folder):
  step = folder / "checkpoints" / "3"
  names = [stepfolders.LIST, stepfolders.META, stepfolders.HEADER]
  return {str((step / name).relative_to(folder)): JSON for name in names} | {
      "checkpoints/.saving": JSON}


def _array_files(folder):
  step = folder / "checkpoints" / "3"
  return {str(path.relative_to(folder)): (
      JSON if path.name in ("_METADATA", "_sharding", ".zarray")
      or "array_metadata" in str(path) else edits.Bytes())
      for item in ("params", "optimizer") for path in sorted(
          (step / item).rglob("*")) if path.is_file()}


def _list_run(folder):
  """All that needs no arrays: what counts, what is told, what goes on."""
  listing.text(listing.describe(str(folder)))
  metas = stepfolders.finished(str(folder / "checkpoints"))
  stepfolders.superfluous(metas, keep_last=1, keep_every=3,
                          keep_best="min:loss")
  saved = checkpoint.Checkpoints(str(folder), read_only=True)
  if saved.latest() is None:
    return
  meta = saved.meta(saved.latest())
  config = cli.load_config(str(CONFIG))
  if "config" in meta:
    resume.check_config(str(folder), build.flatten(
        build.saved_config(meta)), build.flatten(config))
  resume.recorded(meta, 3, [])
  resume.line(3, 2, 0, 1e-3, meta, {"hosts": 1, "devices": 1})


def _clear_run(folder):
  checkpoint.Checkpoints(str(folder))


def _restore_run(folder):
  saved = checkpoint.Checkpoints(str(folder), read_only=True)
  try:
    found = saved.restore(3, LIKE)
    jax.block_until_ready(found)
  finally:
    saved.close()


def _arrays_of_run(folder):
  saved = checkpoint.Checkpoints(str(folder), read_only=True)
  for tensor in saved.arrays(3, "params").values():
    tensor.rows()


def _config(folder):
  (folder / "config.json").write_text(json.dumps(
      cli.load_config(str(CONFIG)).to_dict()))
  (folder / "checkpoints").mkdir()


def _read_config(folder):
  config = build.load_config(str(folder))
  build.flatten(config)
  build.model(config)
  datasets.options(config)
  build.mesh_sizes(config, 8)
  datasets.data_folder(config, str(folder))
  sources.config_of(str(folder))


def _log(folder):
  for name in ("metrics.jsonl", "skipped.jsonl"):
    (folder / name).write_text("".join(
        json.dumps({"step": step, "time": 1.5, "loss": 1.0}) + "\n"
        for step in (1, 2, 3)))


def _read_log(folder):
  for name in ("metrics.jsonl", "skipped.jsonl"):
    lines.cut(str(folder / name), 2)


def _overrides(folder):
  (folder / "args").write_text("\n".join((
      "--config.global_batch=4", "--config.optim.clip_norm=1e-4",
      "--config.prompt_ids=[2, 5]", "--config.data.root=x",
      "--config.init_from=null", "--config.model.view=dynamic",
      "--config.model.layers=0x10", "--config.keep_best=min:loss")))


def _read_overrides(folder):
  path = folder / "args"
  data = path.read_bytes() if path.is_file() else b""
  for line in data.decode(errors="surrogateescape").split("\n"):
    if "=" in line:  # each alone, so that one bad does not hide the next
      cli.load_config(str(CONFIG), [line])


class _Policy(policy.Policy):
  """The checks of a policy without its model."""

  def __init__(self):
    self._sizes = (5, 4)


def _message(folder):
  (folder / "message").write_bytes(wire.pack(_Policy().example(7) | {
      "augment": True}))
  (folder / "answer").write_bytes(wire.pack({
      "actions": np.zeros((3, 2)), "camera": 2, "list": [1, {}]}))


def _read_message(folder):
  for name in ("message", "answer"):
    path = folder / name
    found = wire.unpack(path.read_bytes() if path.is_file() else b"")
    if name == "message":
      _Policy().check(found)


class _Line:
  """A connection that has sent one line."""

  def __init__(self, data):
    self._data = data

  def makefile(self, mode):
    return io.BytesIO(self._data)

  def settimeout(self, seconds):
    pass

  def sendall(self, data):
    pass

  def close(self):
    pass


def _host(folder):
  (folder / "visit").write_text(json.dumps({
      "process": 1, "processes": 2, "facts": {"config": {"a": 1}}}) + "\n")
  (folder / "answer").write_text(json.dumps(
      {"error": "they differ in much", "code": "E-PEER"}) + "\n")


def _read_host(folder):
  place = rendezvous.Place("localhost:1", 2, 0, 1.0)
  data = lambda name: ((folder / name).read_bytes()
                       if (folder / name).is_file() else b"")
  found = {0: {"config": {"a": 1}}}
  host = rendezvous._Host(place)
  host._take(_Line(data("visit")), "address", found)
  if 1 in found:
    try:
      rendezvous.compare([found[0], found[1]])
    except ValueError as error:
      assert str(error)
  try:
    rendezvous._refused(rendezvous._read(_Line(data("answer"))))
  except (OSError, ValueError) as error:  # tried again, or told in its words
    assert not isinstance(error, TypeError)


READERS = (
    Reader("checkpoint listing", _run, _small_files, _list_run, share=1,
           quick=13),
    Reader("checkpoint tidying", _run, _small_files, _clear_run, share=0.3,
           quick=1, changes=True),
    Reader("checkpoint restore", _run, lambda folder: _small_files(folder)
           | _array_files(folder), _restore_run, share=0.4, quick=2,
           native=True),
    Reader("checkpoint arrays", _run, _array_files, _arrays_of_run, share=1.5,
           quick=5, native=True),
    Reader("run config", _config, {"config.json": JSON}, _read_config,
           share=0.4, quick=13),
    Reader("run log", _log, {"metrics.jsonl": edits.JsonLines(),
                             "skipped.jsonl": edits.JsonLines()}, _read_log,
           share=3, quick=2, changes=True),
    Reader("overrides", _overrides, {"args": edits.Bytes()},
           _read_overrides, share=1, quick=6),
    Reader("policy message", _message, {"message": edits.Bytes(),
                                        "answer": edits.Bytes()},
           _read_message, share=10, quick=20),
    Reader("other host", _host, {"visit": JSON, "answer": JSON}, _read_host,
           share=6, quick=13),
)
