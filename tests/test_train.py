"""The loop: a killed run ends as an undisturbed one; its logs hold no gaps.

The model is as small as it gets, the routes are a few synthetic frames; what
takes longer is in test_train_slow.
"""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from data_pipeline import errors, normalize, writing
from drivemoe_jax import (
  build,
    checkpoint,
    compile_cache,
    datasets,
    hosts,
    train,
)
from tests.data_pipeline import fixtures
from tests.small_run import (
    Killed,
    assert_equal,
    interrupt,
    kill,
    load,
    log_of,
    params_of,
    run,
)


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


@pytest.mark.parametrize("first", [True, False])
def test_every_host_tells_of_its_own_cache(routes, tmp_path, monkeypatch,
                                           capsys, first):
  def use(folder, say):
    say("W-CACHE: no such folder")
    raise Killed

  monkeypatch.setattr(hosts, "first", lambda: first)
  monkeypatch.setattr(compile_cache, "use", use)
  said = []
  with pytest.raises(Killed):
    train.run(load(routes), str(tmp_path), said.append)
  warned = "W-CACHE: no such folder" in capsys.readouterr().err
  assert (said[-1:] == ["W-CACHE: no such folder"], warned) == (
      first, not first)


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
  assert status == 75
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


def test_one_training_at_a_time_in_a_folder(routes, undisturbed, tmp_path,
                                           monkeypatch):
  shutil.copytree(undisturbed, tmp_path / "run")
  monkeypatch.setattr(train, "LEAVE_S", 0.0)
  with writing.alone(str(tmp_path / "run"), "trained"):
    with pytest.raises(errors.ConfigError, match="being trained by process"):
      run(load(routes), tmp_path / "run")
  assert run(load(routes), tmp_path / "run")[1][-1] == "done: step 8"


def test_fewer_updates_than_were_made_are_a_mistake(routes, undisturbed,
                                                    tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  with pytest.raises(errors.ConfigError, match="total_updates 6, .* step 8"):
    run(load(routes, total_updates=6), tmp_path / "run")
  assert build.load_config(str(tmp_path / "run")).total_updates == 8


def test_an_accepted_change_is_told(routes, undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  status, lines = run(load(routes, seed=4), tmp_path / "run", ("seed",))
  assert (status, lines[-1]) == (0, "done: step 8")
  assert lines[0].startswith("resume: step 8, next sample 64, seed 4, lr ")
  assert lines[1] == "accepted change at step 8: seed 0 -> 4"
  # No step has seen it, so it is not settled.
  with pytest.raises(errors.ResumeError, match="--accept-change seed"):
    run(load(routes, seed=4), tmp_path / "run")


def test_the_log_names_what_was_promised(undisturbed):
  for line in log_of(undisturbed):
    assert {"step", "loss", "loss_action", "loss_camera",
            "loss_camera_weighted", "loss_skill", "loss_skill_weighted", "lr",
            "grad_norm", "samples_per_second", "data_wait_share",
            "host_memory_gb", "expert_load/merging", "expert_weight/normal",
            "routing_entropy", "dead_experts"} <= set(line)


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
  real, poison = datasets.train_batches, []

  def poisoned(config, windows, stats, start, weights):
    for number, batch in enumerate(
        real(config, windows, stats, start, weights), start):
      if number >= 4:
        poison.append(batch["sample_id"].tolist())
        batch["proprio"] = batch["proprio"] * np.nan
      yield batch

  monkeypatch.setattr(datasets, "train_batches", poisoned)
  with pytest.raises(errors.NumericsError, match="E-NAN: 2 non-finite.*"
                     "Last healthy: 3 .kept") as bad:
    run(load(routes, max_skipped=2), tmp_path)
  assert bad.value.status == 5
  bad_lines = [line for line in log_of(tmp_path) if line["loss"] is None]
  assert [line["step"] for line in bad_lines] == [5]
  skipped = [json.loads(line) for line in open(tmp_path / "skipped.jsonl")]
  assert [line["step"] for line in skipped] == [5, 6]
  assert [line["sample_ids"] for line in skipped] == poison[:2]
  assert all(len(line["frames"]) == 8 and fixtures.NAME.format(0)[:5] in
             line["frames"][0] for line in skipped)
  assert build.load_run(str(tmp_path)).step == 3
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params_of(tmp_path)))


def test_the_scale_of_a_start_that_failed_is_not_taken(routes, tmp_path,
                                                       monkeypatch):
  """The routes are put right after it; their numbers are other ones."""
  with monkeypatch.context() as broken:
    broken.setattr(build, "optimizer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run(load(routes, data__whole_past=True), tmp_path)
  config = load(routes, total_updates=1)
  with pytest.raises(errors.DataError, match="other statistics; remove it"):
    run(config, tmp_path)
  (tmp_path / "statistics.json").unlink()
  status, _ = run(config, tmp_path)
  train = datasets.windows(config, str(tmp_path), "train")
  found = build.load_run(str(tmp_path)).statistics
  assert (status, found) == (0, normalize.compute(train))
