"""What saves leave on disk: when one fails, when old steps go, after a kill."""

import os
import resource
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, stepfolders
from tests.parameters import make_params
from tests.small_run import ROOT


def fail_once(monkeypatch, error, times=1):
  """A disk that breaks while a save is under way, as Orbax tells it."""
  real, left = stepfolders.write_list, [error] * times

  def write_list(path):
    if left:
      raise left.pop()
    real(path)
  monkeypatch.setattr(stepfolders, "write_list", write_list)


def test_a_failed_save_is_told_leaves_nothing_and_costs_no_older_step(
    tmp_path, monkeypatch):
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  run.save(1, {"params": make_params()}, {})
  assert run.outcome(wait=True) == checkpoint.Outcome(1, None)
  full = OSError(28, "No space left on device")
  fail_once(monkeypatch, full, times=2)
  run.save(2, {"params": make_params()}, {})
  assert run.outcome(wait=True) == checkpoint.Outcome(2, full)
  assert run.outcome(wait=True) is None  # told once
  assert os.listdir(tmp_path / "checkpoints") == ["1"]
  run.save(2, {"params": make_params()}, {})  # nobody asks how it went
  with pytest.raises(errors.SaveError, match="E-SAVE: step 2 .*No space.*: 1"):
    run.save(3, {"params": make_params()}, {})
  run.save(3, {"params": make_params()}, {})
  run.close()
  assert os.listdir(tmp_path / "checkpoints") == ["3"]


def test_a_write_that_the_system_refuses_is_a_failed_save(tmp_path):
  run = checkpoint.Checkpoints(tmp_path)
  big = {"params": {"x": jnp.arange(2e5)}}
  old = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, old[1]))  # bytes a file
  try:
    run.save(1, big, {})
    found = run.outcome(wait=True)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
  assert found.step == 1 and "File too large" in found.why
  run.save(1, big, {})
  run.close()
  assert run.latest() == 1


def test_a_folder_that_cannot_be_written_is_a_failed_save(tmp_path,
                                                          monkeypatch):
  run = checkpoint.Checkpoints(tmp_path)

  def begin(folder, step):
    raise PermissionError(13, "Permission denied", folder)
  monkeypatch.setattr(stepfolders, "begin", begin)
  run.save(1, {"params": make_params()}, {})
  with pytest.raises(errors.SaveError, match="Permission denied.*good: None"):
    run.close()


def test_what_lies_in_the_way_is_kept_under_another_name(tmp_path):
  folder = tmp_path / "checkpoints"
  for name in ("2", "2.orbax-checkpoint-tmp"):
    (folder / name).mkdir(parents=True)
    (folder / name / "theirs").write_text("x")
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  assert run.latest() is None
  for number in (1, 2):
    run.save(number, {"params": make_params()}, {})
  run.close()
  assert run.latest() == 2
  kept = {name for name in os.listdir(folder) if name != "2"}
  assert kept == {"unfinished-2", "unfinished-2.orbax-checkpoint-tmp"}
  assert all((folder / name / "theirs").exists() for name in kept)


def test_old_steps_go_and_milestones_stay(tmp_path):
  run = checkpoint.Checkpoints(tmp_path, keep_last=2, keep_every=4)
  for number in range(1, 8):
    run.save(number, {"params": make_params(number)}, {"n": number})
  run.save(7, {"params": make_params(0)}, {"n": 0})  # it is there already
  run.close()
  assert sorted(os.listdir(tmp_path / "checkpoints")) == ["4", "6", "7"]
  again = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert again.latest() == 7 and again.meta(7)["n"] == 7


def test_a_step_that_goes_is_out_of_sight_before_its_files_go(
    tmp_path, monkeypatch):
  # As if killed before the trash was emptied.
  monkeypatch.setattr(stepfolders, "empty_trash", lambda folder: None)
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  for number in (1, 2, 3):
    run.save(number, {"params": make_params(number)}, {})
  run.close()
  seen = set(os.listdir(tmp_path / "checkpoints"))
  assert seen == {"3", stepfolders.TRASH}
  assert checkpoint.Checkpoints(tmp_path, read_only=True).latest() == 3


KILLED = """
import sys, jax.numpy as jnp
from drivemoe_jax import checkpoint
run = checkpoint.Checkpoints(sys.argv[1], keep_last=1)
for step in range(1, 1000):
  run.save(step, {"params": {"x": jnp.full((3000, 1000), step * 1.0)}}, {})
  print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_after_a_kill_the_latest_step_is_whole(tmp_path, delay):
  child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)],
                           cwd=ROOT, stdout=subprocess.PIPE)
  for _ in range(3):
    child.stdout.readline()
  time.sleep(delay)
  child.kill()
  child.wait()
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  last = run.latest()
  assert last >= 1
  got = run.restore(last, {"params": run.tree(last, "params")})["params"]
  np.testing.assert_array_equal(got["x"], np.full((3000, 1000), last * 1.0))
  run.save(last + 1, {"params": got}, {})  # over the leftovers of the kill
  run.close()
  assert os.listdir(tmp_path / "checkpoints") == [str(last + 1)]
