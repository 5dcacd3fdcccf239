"""Whole runs that take longer: killed from outside, moved to another mesh, and
without any data."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from launch import cli, train
from tests.small_run import (
    CONFIG,
    ROOT,
    SMALL,
    Killed,
    assert_equal,
    interrupt,
    kill,
    load,
    log_of,
    overrides,
    params_of,
    run,
)


def start(routes, workdir, *extra):
  env = os.environ | {"XLA_FLAGS": ""}
  return subprocess.Popen(
      [sys.executable, "-m", "launch.train", "--config", CONFIG, "--workdir",
       str(workdir), *overrides(routes, {"total_updates": 40,
                                         "save_every": 5}), *extra],
      cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_no_trace(routes, tmp_path):
  whole = start(routes, tmp_path / "whole")
  assert whole.communicate()[0].splitlines()[-1] == "done: step 40"
  broken = tmp_path / "broken"
  for steps in (4, 17):
    child = start(routes, broken)
    while not (broken / "metrics.jsonl").exists() or len(
        (broken / "metrics.jsonl").read_text().splitlines()) < steps:
      assert child.poll() is None
      time.sleep(0.001)
    child.kill()
    child.wait()
  out = start(routes, broken).communicate()[0].splitlines()
  assert out[0].startswith("resume: step") and out[-1] == "done: step 40"
  assert_equal(params_of(broken), params_of(tmp_path / "whole"))
  steps = [line["step"] for line in log_of(broken)]
  assert steps == list(range(1, 41))


@pytest.mark.slow
def test_a_run_moves_to_another_mesh(routes, undisturbed, tmp_path,
                                     monkeypatch):
  with monkeypatch.context() as patch:
    interrupt(patch, 5, kill)
    with pytest.raises(Killed):
      run(load(routes), tmp_path)
  status, lines = run(load(routes, mesh__data=2, mesh__fsdp=2, mesh__expert=2),
                      tmp_path)
  assert status == 0 and lines[0].startswith("resume: step 3,")
  loss = lambda folder: [line["loss"] for line in log_of(folder)]
  np.testing.assert_allclose(loss(tmp_path), loss(undisturbed), rtol=1e-4)


@pytest.mark.slow
def test_the_embedded_world_needs_nothing_but_a_workdir(tmp_path, routes):
  small = {k: x for k, x in SMALL.items() if k != "total_updates"} | {
      "total_updates": 2, "data.record.train_seeds": 1,
      "data.record.val_seeds": 1, "data.record.max_frames": 14}
  config = cli.load_config(CONFIG, [f"--config.{k}={x}"
                                    for k, x in small.items()])
  status, lines = run(config, tmp_path)
  assert status == 0 and lines[-1] == "done: step 2"
  assert (tmp_path / "data" / "val_routes.txt").exists()


@pytest.mark.slow
def test_a_second_round_learns_from_what_the_first_one_drove(tmp_path):
  """Both as a user starts them."""
  small = SMALL | {
      "model.image_size": 16, "model.patch_size": 8,  # for mini's convolutions
      "total_updates": 2, "data.workers": 1, "data.augment": False,
      "data.record.scenarios": "[TJunction]", "data.record.train_seeds": 2,
      "data.record.max_frames": 18, "data.record.handover_frames": 18,
      "data.record.width_px": 64, "data.record.height_px": 36}
  flags = [f"--config.{k}={x}" for k, x in small.items()]
  config = os.path.join(ROOT, "configs", "mini.py")
  first, again, last = (str(tmp_path / name) for name in ("a", "b", "c"))
  assert train.main(["--config", config, "--workdir", first, *flags,
                     "--config.data.record.val_seeds=1"]) == 0
  assert train.main(["--config", f"{config}:round=2", "--workdir", again,
                     f"--config.init_from={first}", *flags]) == 0
  seeds = {name.split("_")[2] for name in os.listdir(f"{again}/data/routes")}
  assert seeds == {"Route0", "Route1", "Route64", "Route65", "Route9000"}
  drive, = (tmp_path / "a" / "drives" / "model-2").glob("*/drive.json")
  assert drive.parent.name.endswith("_TJunction")
  assert train.main(["--config", f"{config}:stage=2", "--workdir", last,
                     f"--config.init_from={again}", *flags]) == 0
  assert not os.path.exists(f"{last}/data")  # it used those of the round
