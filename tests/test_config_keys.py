"""Every setting of a config has a reader, watched while a run trains."""

import sys

import ml_collections

from configs import common
from tests.small_run import load, run

# Settings that a training which states its updates and its split leaves alone.
READ_ELSEWHERE = {"data.val_fraction", "flow.noise_scale", "flow.steps",
                  "mesh.preset", "total_epochs"}


def watched(real, note):
  """A reader of ConfigDicts that notes (keys of the dict, key)."""
  def read(self, key):
    caller = sys._getframe(1).f_code
    # Who copies all of it uses none of it.
    if not (caller.co_name == "flatten"
            or "ml_collections" in caller.co_filename):
      note(frozenset(self.keys()), key)
    return real(self, key)
  return read


def test_every_setting_is_read(routes, tmp_path, monkeypatch):
  """Those of the model are its attributes: an unknown one is an error."""
  default, read = common.get_config(), set()
  parts = {"": default} | {f"{name}.": part for name, part in default.items()
                           if isinstance(part, ml_collections.ConfigDict)}
  # A copy of a part of the config is known by its keys.
  prefix = {frozenset(part): name for name, part in parts.items() if len(part)}

  def note(keys, key):
    if keys in prefix:
      read.add(prefix[keys] + key)

  for name in ("__getattr__", "__getitem__"):
    real = getattr(ml_collections.ConfigDict, name)
    monkeypatch.setattr(ml_collections.ConfigDict, name, watched(real, note))
  run(load(routes, total_updates=1), tmp_path)
  keys = {key for key in common.flatten(default)
          if not key.startswith("model.")}
  assert keys - read == READ_ELSEWHERE
