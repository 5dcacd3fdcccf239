"""The loop: a killed run ends as an undisturbed one; its logs hold no gaps.

The model is as small as it gets, the routes are a few synthetic frames.
"""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import build, checkpoint, init_from, sharding, step, train
from launch import cli
from tests.data_pipeline import fixtures

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = os.path.join(ROOT, "configs", "tiny.py")
MODEL = dict(
    vision_width=16, vision_layers=1, vision_heads=2, vision_mlp=16,
    image_size=14, patch_size=7, vlm_width=16, vlm_mlp=32, expert_width=16,
    expert_mlp=32, layers=2, heads=2, head_dim=8, moe_layers=1, camera_heads=2,
    camera_hidden=8)
SMALL = {f"model.{key}": x for key, x in MODEL.items()} | {
    "total_updates": 8, "global_batch": 8, "per_device_batch": 8,
    "log_every": 1, "save_every": 3, "keep_last": 2, "data.augment": True}


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
  root = tmp_path_factory.mktemp("routes")
  cameras = ["CAM_FRONT_LEFT", "NULL", "CAM_BACK_RIGHT"]
  skills = ["OVERTAKING", "NORMAL", "EMERGENCY_BRAKE"]
  for i in range(3):
    name = fixtures.NAME.format(i)
    fixtures.write_route(root, name, frames=18, labels=False)
    fixtures.write_labels(root / "labels", name, cameras[i:i + 1] * 18,
                          skills[i:i + 1] * 18)
  (root / "val.txt").write_text(fixtures.NAME.format(2) + "\n")
  return root


def overrides(routes, changes):
  values = SMALL | {
      "data.root": routes, "data.labels_root": routes / "labels",
      "data.val_list": routes / "val.txt"} | changes
  return [f"--config.{key}={value}" for key, value in values.items()]


def load(routes, arg="", **changes):
  changes = {key.replace("__", "."): x for key, x in changes.items()}
  return cli.load_config(CONFIG + arg, overrides(routes, changes))


def run(config, workdir):
  """(status, lines said) of a run."""
  lines = []
  status = train.run(config, str(workdir), lines.append)
  return status, lines


def params_of(workdir):
  return jax.device_get(build.load_run(str(workdir)).params)


def log_of(workdir):
  with open(workdir / "metrics.jsonl", encoding="utf-8") as file:
    return [json.loads(line) for line in file]


def events_of(workdir):
  """[(step, {tag: value})] of the TensorBoard folder."""
  import tensorflow as tf
  found = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      if event.summary.value:
        found.append((event.step, {
            v.tag: v.simple_value for v in event.summary.value}))
  return found


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def undisturbed(routes, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  status, lines = run(load(routes), workdir)
  assert status == 0 and lines[-1] == "done: step 8"
  assert lines[0].startswith("start: step 0 of 8")
  return workdir


class Killed(BaseException):
  """What SIGKILL looks like from inside: nothing below catches it."""


def interrupt(monkeypatch, after, action):
  """Makes the loader call `action` before it gives batch number `after`."""
  real = build.train_batches

  def batches(config, windows, stats, start):
    for number, batch in enumerate(real(config, windows, stats, start), start):
      if number == after:
        action()
      yield batch

  monkeypatch.setattr(build, "train_batches", batches)


def kill():
  raise Killed


def test_a_run_interrupted_twice_ends_bit_for_bit_the_same(
    routes, undisturbed, tmp_path, monkeypatch):
  config = load(routes)
  with monkeypatch.context() as patch:
    interrupt(patch, 5, kill)
    with pytest.raises(Killed):
      run(config, tmp_path)
  # Steps 4 and 5 may be in the log, but step 3 is what was saved.
  with monkeypatch.context() as patch:
    interrupt(patch, 6, lambda: signal.raise_signal(signal.SIGTERM))
    status, lines = run(config, tmp_path)
  assert lines[0].startswith("resume: step 3, next sample 24,")
  assert status == train.PREEMPTED == 75
  stopped = int(lines[-1].split()[2])
  assert lines[-1].startswith("preempted: step") and stopped >= 6
  status, lines = run(config, tmp_path)
  assert lines[0].startswith(f"resume: step {stopped},")
  assert status == 0 and lines[-1] == "done: step 8"

  assert_equal(params_of(tmp_path), params_of(undisturbed))
  rates = ("time", "samples_per_second", "step_seconds", "data_wait_share",
           "host_memory_gb")
  numbers = lambda folder: [
      {k: x for k, x in line.items() if k not in rates}
      for line in log_of(folder)]
  assert numbers(tmp_path) == numbers(undisturbed)
  assert [line["step"] for line in log_of(tmp_path)] == list(range(1, 9))
  events = events_of(tmp_path)
  assert [step for step, _ in events] == list(range(1, 9))
  np.testing.assert_allclose([values["loss"] for _, values in events],
                             [line["loss"] for line in log_of(tmp_path)],
                             rtol=1e-6)


def test_a_finished_run_has_nothing_left_to_do(routes, undisturbed):
  before = params_of(undisturbed)
  status, lines = run(load(routes), undisturbed)
  assert (status, lines[-1]) == (0, "done: step 8")
  assert_equal(params_of(undisturbed), before)


def test_the_log_names_what_was_promised(undisturbed):
  for line in log_of(undisturbed):
    assert {"step", "loss", "loss_action", "loss_camera",
            "loss_camera_weighted", "loss_skill", "loss_skill_weighted", "lr",
            "grad_norm", "samples_per_second", "data_wait_share",
            "host_memory_gb"} <= set(line)


def test_a_checkpoint_says_where_it_comes_from(routes, undisturbed):
  saved = checkpoint.Checkpoints(str(undisturbed), read_only=True)
  meta = saved.meta(8)
  assert (meta["step"], meta["next_sample"], meta["seed"]) == (8, 64, 0)
  assert meta["config"]["model"]["layers"] == 2
  assert meta["statistics"]["horizon"] == 10
  assert set(meta["data"]) == {"windows", "labels"}
  # 8 windows in each of two training routes, one class each.
  assert meta["config"]["loss"]["camera_counts"] == [8, 0, 8, 0, 0]
  found = build.load_run(str(undisturbed), 6)
  assert found.step == 6 and found.config.loss.skill_counts[2] == 8


def test_another_config_is_refused(routes, undisturbed):
  with pytest.raises(errors.ResumeError) as caught:
    run(load(routes, seed=4), undisturbed)
  for part in ("E-RESUME", "seed is 0 there and 4 here", "--config.seed=0"):
    assert part in str(caught.value)
  assert caught.value.status == 4


def test_what_changes_no_number_may_change(routes, undisturbed):
  status, _ = run(load(routes, log_every=7, save_every=4), undisturbed)
  assert status == 0


def test_other_labels_are_refused(routes, undisturbed):
  path = routes / "labels" / "camera_labels" / f"{fixtures.NAME.format(0)}.json"
  old = path.read_text()
  path.write_text(old.replace("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", 1))
  try:
    with pytest.raises(errors.ResumeError, match="other labels: digest"):
      # Counts are part of the config; stated, they do not give it away.
      c = build.load_config(str(undisturbed))
      run(c, undisturbed)
  finally:
    path.write_text(old)


def test_uneven_sizes_end_before_any_data_is_opened(tmp_path):
  config = load(tmp_path / "no_routes", global_batch=9, mesh__data=2)
  with pytest.raises(errors.MeshError, match="Nearest legal: 8 or 10"):
    run(config, tmp_path / "new")
  assert not os.path.exists(tmp_path / "new")


def test_too_few_windows_for_one_batch_are_a_mistake(routes, tmp_path):
  config = load(routes, global_batch=64, per_device_batch=64, total_epochs=1)
  with config.unlocked():
    config.total_updates = None
  with pytest.raises(errors.ConfigError, match="16 training windows.*64"):
    run(config, tmp_path)


def test_many_bad_updates_in_a_row_stop_the_run(routes, tmp_path, monkeypatch):
  real = build.train_batches

  def poisoned(config, windows, stats, start):
    for number, batch in enumerate(real(config, windows, stats, start), start):
      if number >= 4:
        batch["proprio"] = batch["proprio"] * np.nan
      yield batch

  monkeypatch.setattr(build, "train_batches", poisoned)
  with pytest.raises(errors.NumericsError, match="E-NAN: 2 non-finite") as bad:
    run(load(routes, max_skipped=2), tmp_path)
  assert bad.value.status == 5
  bad_lines = [line for line in log_of(tmp_path) if line["loss"] is None]
  assert [line["step"] for line in bad_lines] == [5]
  assert build.load_run(str(tmp_path)).step == 3
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params_of(tmp_path)))


def first_state(config, say=lambda line: None):
  model = build.model(config)
  mesh = sharding.make_mesh(build.mesh_sizes(config))
  shapes = step.param_shapes(model)
  tx = build.optimizer(config, shapes)
  opened = init_from.source(config)
  return init_from.state(config, model, shapes, tx, mesh, opened, say)[0]


def test_stage_2_starts_from_stage_1(routes, undisturbed, tmp_path):
  said = []
  config = load(routes, ":stage=2", init_from=undisturbed)
  state = first_state(config, said.append)
  assert_equal(jax.device_get(state.params), params_of(undisturbed))
  assert "step 8" in said[0]
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
  assert moments and not any(np.any(x) for x in moments)
  older = load(routes, ":stage=2", init_from=f"{undisturbed}@6")
  said.clear()
  first_state(older, said.append)
  assert "step 6" in said[0]
  # The second stage reads its inputs in the first one's scale.
  windows = build.windows(config, str(tmp_path), "val")
  theirs = build.load_run(str(undisturbed)).statistics
  assert build.statistics(config, str(tmp_path), windows) == theirs


@pytest.mark.parametrize("changes, told", [
    (dict(init_from="nowhere"), "E-CKPT: no weights at nowhere"),
    (dict(init_from="{}@5"), "no finished step 5"),
    (dict(init_from="{}", model__layers=3), "E-CKPT"),
    (dict(init_from="{}", model__vlm_mlp=48), "reshaped"),
])
def test_stage_2_refuses_what_is_not_its_stage_1(routes, undisturbed, changes,
                                                 told):
  changes["init_from"] = changes["init_from"].format(undisturbed)
  with pytest.raises(errors.CheckpointError) as caught:
    first_state(load(routes, ":stage=2", **changes))
  assert told in str(caught.value)


def test_stage_2_needs_a_stage_1(routes, undisturbed, tmp_path):
  config = load(routes, ":stage=2")
  with config.unlocked():
    config.init_from = None
  with pytest.raises(errors.ConfigError, match="init_from=WORKDIR"):
    first_state(config)
  for name in ("checkpoints", "statistics.json"):
    os.symlink(undisturbed / name, tmp_path / name)
  second = json.loads((undisturbed / "config.json").read_text()) | {"stage": 2}
  (tmp_path / "config.json").write_text(json.dumps(second))
  with pytest.raises(errors.CheckpointError, match="is of stage 2"):
    first_state(load(routes, ":stage=2", init_from=tmp_path))


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
