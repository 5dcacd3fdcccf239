"""The record of a run: no step twice, no broken line, W&B only on request."""

import json
import sys
import types

import pytest

from data_pipeline import errors
from drivemoe_jax import logs


def lines(folder):
  with open(folder / "metrics.jsonl", encoding="utf-8") as file:
    return [json.loads(line) for line in file]


def write(folder, done, steps, **kwargs):
  log = logs.Log(str(folder), done, **kwargs)
  for step in steps:
    log.write(step, {"loss": step / 2})
  log.close()


def events(folder):
  import tensorflow as tf
  paths = list((folder / "tensorboard").iterdir())
  assert len(paths) == 1  # a second file would draw its steps twice
  found = [tf.compat.v1.Event.FromString(record) for record in
           tf.data.TFRecordDataset(str(paths[0])).as_numpy_iterator()]
  assert found[0].file_version == "brain.Event:2"
  return [(e.step, {v.tag: v.simple_value for v in e.summary.value})
          for e in found[1:]]


def test_a_resumed_log_holds_each_step_once(tmp_path):
  write(tmp_path, 0, range(1, 8))
  write(tmp_path, 5, range(6, 10))
  assert [line["step"] for line in lines(tmp_path)] == list(range(1, 10))
  assert events(tmp_path) == [(i, {"loss": i / 2}) for i in range(1, 10)]
  write(tmp_path, 0, [1])  # nothing was saved: a fresh start
  assert [line["step"] for line in lines(tmp_path)] == [1]
  assert [step for step, _ in events(tmp_path)] == [1]


def test_a_line_that_a_kill_cut_is_dropped(tmp_path):
  write(tmp_path, 0, [1, 2])
  with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
    file.write('{"step": 3, "lo')
  write(tmp_path, 3, [4])
  assert [line["step"] for line in lines(tmp_path)] == [1, 2, 4]


@pytest.mark.parametrize("name, note", [
    ("skipped", lambda log, step: log.skip(step, {"sample_ids": [step]})),
    ("warnings", lambda log, step: log.warn(step, "W-X: odd", {
        "sample_ids": [step]}))])
def test_notes_beside_the_metrics_are_kept_up_to_the_resumed_step(
    tmp_path, name, note):
  for done, steps in ((0, (1, 3, 5)), (3, (4,))):
    log = logs.Log(str(tmp_path), done)
    for step in steps:
      note(log, step)
    log.close()
  lines = [json.loads(line) for line in open(tmp_path / f"{name}.jsonl")]
  assert [line["step"] for line in lines] == [1, 3, 4]
  assert all(line["sample_ids"] == [line["step"]] for line in lines)
  assert (name == "warnings") == ("W-X: odd" in str(lines))


def test_what_is_not_finite_is_null(tmp_path):
  log = logs.Log(str(tmp_path), 0)
  log.write(1, {"loss": float("nan"), "lr": 1e-3})
  log.close()
  line, = lines(tmp_path)
  assert (line["loss"], line["lr"]) == (None, 1e-3)
  (_, values), = events(tmp_path)
  assert list(values) == ["lr"]


class FakeRun:
  def __init__(self):
    self.logged, self.finished = [], False

  def log(self, values, step):
    self.logged.append((step, values))

  def finish(self):
    self.finished = True


def fake_wandb(monkeypatch):
  fake = types.ModuleType("wandb")
  fake.runs, fake.asked = [], []
  fake.util = types.SimpleNamespace(generate_id=lambda: f"id{len(fake.asked)}")

  def init(**kwargs):
    fake.asked.append(kwargs)
    fake.runs.append(FakeRun())
    return fake.runs[-1]

  fake.init = init
  monkeypatch.setitem(sys.modules, "wandb", fake)
  return fake


def test_wandb_gets_the_same_numbers_and_goes_on_under_its_id(
    tmp_path, monkeypatch):
  fake = fake_wandb(monkeypatch)
  write(tmp_path, 0, [1, 2], wandb=True, config={"seed": 3})
  write(tmp_path, 2, [3], wandb=True, config={"seed": 3})
  assert [run.logged for run in fake.runs] == [
      [(1, {"loss": 0.5}), (2, {"loss": 1.0})], [(3, {"loss": 1.5})]]
  assert all(run.finished for run in fake.runs)
  first, second = fake.asked
  assert first["id"] == second["id"] == "id0"
  assert first["resume"] == "allow" and first["config"] == {"seed": 3}


def test_wandb_is_left_alone_unless_asked(tmp_path, monkeypatch):
  fake = fake_wandb(monkeypatch)
  write(tmp_path, 0, [1])
  assert not fake.asked


def test_wandb_that_is_not_installed_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(errors.ConfigError, match="needs the package wandb"):
    logs.Log(str(tmp_path), 0, wandb=True)


def test_the_meter_counts_waiting_apart():
  meter = logs.Meter(5)
  assert meter.next(iter([7])) == 7
  values = meter.read(7, 32)
  assert values["samples_per_second"] * values["step_seconds"] == (
      pytest.approx(32))
  assert 0 <= values["data_wait_share"] <= 1
  assert values["host_memory_gb"] > 0
  meter.reset(7)
  assert meter.read(7, 32)["samples_per_second"] == 0
