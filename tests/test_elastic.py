"""Runs that move: to fewer devices, another expert axis, one host; that go on
with something changed; whose disk fails. Whole runs, so all are slow."""

import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, saver, stepfolders
from tests.small_run import (
    CONFIG,
    ROOT,
    Killed,
    interrupt,
    kill,
    load,
    log_of,
    overrides,
    run,
)

pytestmark = pytest.mark.slow


def mesh(data, fsdp, expert):
  return dict(mesh__data=data, mesh__fsdp=fsdp, mesh__expert=expert)


@pytest.fixture(scope="module")
def on_eight(routes, tmp_path_factory):
  """A run of 8 devices that was killed after step 3."""
  workdir = tmp_path_factory.mktemp("eight")
  with pytest.MonkeyPatch.context() as patch:
    interrupt(patch, 5, kill)
    with pytest.raises(Killed):
      run(load(routes, **mesh(2, 2, 2)), workdir)
  assert checkpoint.Checkpoints(workdir, read_only=True).latest() == 3
  return workdir


def losses(folder):
  return [line["loss"] for line in log_of(folder)]


@pytest.mark.parametrize("sizes", [
    (1, 1, 8), (1, 2, 2), (1, 1, 2), (1, 1, 1)])
def test_a_run_of_8_devices_goes_on_with_fewer(routes, undisturbed, on_eight,
                                               tmp_path, sizes):
  shutil.copytree(on_eight, tmp_path / "run")
  status, lines = run(load(routes, **mesh(*sizes)), tmp_path / "run")
  devices = int(np.prod(sizes))
  assert status == 0 and lines[0].startswith("resume: step 3,")
  moved = f"devices 8 -> {devices} (allowed)"
  assert (moved in lines[0]) == (devices != 8)
  np.testing.assert_allclose(losses(tmp_path / "run"), losses(undisturbed),
                             rtol=1e-4)


def start(routes, workdir, devices, changes, *extra):
  env = os.environ | {
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
  return subprocess.Popen(
      [sys.executable, "-m", "launch.train", "--config", CONFIG, "--workdir",
       str(workdir), *overrides(routes, changes), *extra],
      cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def test_a_run_of_2_hosts_goes_on_with_1(routes, undisturbed, tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  both = [start(routes, tmp_path, 2,
                {"total_updates": 4, "mesh.data": 1, "mesh.fsdp": 2,
                 "mesh.expert": 2},
                "--coordinator", address, "--processes", "2", "--process-id",
                str(i)) for i in range(2)]
  outs = [child.communicate(timeout=500)[0] for child in both]
  assert outs[0].splitlines()[-1] == "done: step 4"
  saved = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert list(saved.steps()) == [3, 4]
  assert saved.meta(4)["saved_on"] == {"hosts": 2, "devices": 4}
  child = start(routes, tmp_path, 2, {"mesh.fsdp": 2})
  lines = child.communicate()[0].splitlines()
  assert lines[0].startswith("resume: step 4, next sample 32,")
  assert "hosts 2 -> 1 (allowed), devices 4 -> 2 (allowed)" in lines[0]
  assert lines[-1] == "done: step 8"
  np.testing.assert_allclose(losses(tmp_path), losses(undisturbed), rtol=1e-4)


def test_accepted_changes_are_in_later_checkpoints(routes, undisturbed,
                                                   tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  config = load(routes, seed=4, global_batch=4, total_updates=10)
  with pytest.raises(errors.ResumeError):
    run(config, tmp_path / "run", ("seed",))
  status, lines = run(config, tmp_path / "run", ("global_batch", "seed"))
  assert status == 0 and lines[0].startswith("resume: step 8, next sample 32,")
  changes = [{"step": 8, "key": "global_batch", "from": 8, "to": 4},
             {"step": 8, "key": "seed", "from": 0, "to": 4}]
  saved = checkpoint.Checkpoints(tmp_path / "run", read_only=True)
  found = saved.meta(10)["changes"]
  assert sorted(found, key=lambda change: change["key"]) == changes
  status, lines = run(config, tmp_path / "run")  # from now on it is the run's
  assert status == 0 and not any("accepted" in line for line in lines)
  with pytest.raises(errors.ResumeError, match="seed is 4 there and 0 here"):
    run(load(routes, global_batch=4, total_updates=10), tmp_path / "run")


def test_a_disk_that_fails_once_costs_nothing(routes, undisturbed, tmp_path,
                                              monkeypatch):
  real, left = stepfolders.write_list, [OSError(28, "No space left on device")]

  def write_list(path):
    if left:
      raise left.pop()
    real(path)
  monkeypatch.setattr(stepfolders, "write_list", write_list)
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  status, lines = run(load(routes), tmp_path)
  told = [line for line in lines if line.startswith("E-SAVE")]
  assert status == 0 and len(told) == 1
  assert "step 3 not saved" in told[0] and "No space left" in told[0]
  assert "Last good: None. Retry 1/3" in told[0]
  assert losses(tmp_path) == losses(undisturbed)
  saved = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert saved.latest() == 8


def test_a_disk_that_stays_full_ends_the_run_with_its_last_step(
    routes, tmp_path, monkeypatch):
  real = stepfolders.write_list

  def write_list(path):
    if not os.path.basename(path).startswith("3."):
      raise OSError(28, "No space left on device")
    real(path)
  monkeypatch.setattr(stepfolders, "write_list", write_list)
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  with pytest.raises(errors.SaveError, match="No space.*Last good: 3. Tried 4"
                     ) as caught:
    run(load(routes), tmp_path)
  assert caught.value.status == 4
  assert {name for name in os.listdir(tmp_path / "checkpoints")
          if not name.startswith(".")} == {"3"}
