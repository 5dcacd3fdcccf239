"""Disks that are full, read-only or gone: told in a line, nothing spoilt."""

import errno
import itertools
import os

import jax
import pytest

from data_pipeline import errors
from drivemoe_jax import hosts, lines, logs, mishaps, saver, stepfolders
from drivemoe_jax import step as steps
from tests.faults import kit
from tests.small_run import (
    assert_equal,
    interrupt,
    load,
    log_of,
    params_of,
    run,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(monkeypatch):
  """A disk that takes no line while the list is not empty."""
  real, broken = lines._append, []

  def append(path, data):
    if broken:
      raise FULL
    real(path, data)

  monkeypatch.setattr(lines, "_append", append)
  return broken


def test_lines_that_the_disk_refused_wait_for_it(tmp_path, full):
  said, path = [], tmp_path / "a.jsonl"
  file = lines.Lines(str(path), 0, said.append)
  file.add({"step": 1})
  full.append(True)
  for step in (2, 3):
    file.add({"step": step})
  assert len(said) == 1 and "W-LOG" in said[0] and "No space" in said[0]
  full.clear()
  file.add({"step": 4})
  assert path.read_text() == "".join(
      f'{{"step": {n}}}\n' for n in (1, 2, 3, 4))
  assert "the 3 lines that waited" in said[1]
  full.append(True)
  file.add({"step": 5})
  file.close()
  assert "1 lines" in said[-1] and "lost" in said[-1]


def test_half_a_line_never_stays(tmp_path):
  """On a real disk: what does not fit as a whole is not there at all."""
  with kit.disk(tmp_path / "disk", "size=8k"):
    said = []
    file = lines.Lines(str(tmp_path / "disk" / "a"), 0, said.append)
    for step in range(9):
      file.add({"step": step, "x": "x" * 1500})
    text = (tmp_path / "disk" / "a").read_text()
    assert said and text.endswith("\n") and 0 < text.count("\n") < 9
    os.truncate(tmp_path / "disk" / "a", 0)
    (tmp_path / "disk" / "a").unlink()
    file.add({"step": 9})
    assert "is written again" not in said[-1] or len(said) == 2


def test_events_end_where_the_disk_does_and_the_run_goes_on(tmp_path):
  said = []
  log = logs.Log(str(tmp_path), 0, say=said.append)
  log.write(1, {"loss": 1.0})

  class Writer:
    def write(self, _):
      raise tf.errors.ResourceExhaustedError(None, None, "No space left")

  from data_pipeline import tf_cpu
  tf = tf_cpu.tensorflow()
  log._events._writer = Writer()
  for step in (2, 3):
    log.write(step, {"loss": 1.0})
  log.close()
  assert len(said) == 1 and "W-LOG" in said[0] and "No space left" in said[0]
  assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]


def test_a_full_log_disk_costs_no_line_and_no_update(
    routes, undisturbed, tmp_path, monkeypatch, full):
  interrupt(monkeypatch, 3, lambda: full.append(True))
  real = hosts.Stop.after
  monkeypatch.setattr(hosts.Stop, "after", lambda self, step: (
      full.clear() if step == 6 else None, real(self, step))[1])
  status, said = run(load(routes), tmp_path)
  assert status == 0 and sum("W-LOG" in line for line in said) == 2
  assert [line["loss"] for line in log_of(tmp_path)] == [
      line["loss"] for line in log_of(undisturbed)]


def test_storage_that_vanishes_ends_a_run_in_a_line(routes, tmp_path,
                                                    monkeypatch):
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  workdir = tmp_path / "run"

  def vanish():
    for number in itertools.count():  # a save under way makes it again
      workdir.rename(tmp_path / f"gone{number}")
      try:
        return workdir.touch(exist_ok=False)  # and now nobody can
      except FileExistsError:
        pass
  interrupt(monkeypatch, 4, vanish)
  with pytest.raises(errors.SaveError, match="E-SAVE: step .*Tried 4 times"
                     ) as gone:
    run(load(routes, total_updates=30), workdir)
  assert gone.value.status == 4 and "\n" not in str(gone.value)


@pytest.mark.parametrize("number, told", [
    (errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"),
    (errno.EIO, "Input/output"), (errno.ESTALE, "Stale")])
def test_a_disk_that_refuses_before_the_first_step_is_a_line(
    routes, tmp_path, monkeypatch, number, told):
  def makedirs(path, **_):
    raise OSError(number, os.strerror(number), path)
  config = load(routes)
  monkeypatch.setattr(os, "makedirs", makedirs)
  with pytest.raises(errors.StorageError, match=f"E-DISK: .*run.*{told}"
                     ) as refused:
    run(config, tmp_path / "run")
  assert refused.value.status == 4


def test_a_file_where_the_folder_should_be_is_a_line(routes, tmp_path):
  (tmp_path / "run").write_text("x")
  with pytest.raises(errors.StorageError, match="E-DISK: .*run"):
    run(load(routes), tmp_path / "run")


def test_a_device_without_memory_is_told_with_what_to_change(routes, tmp_path,
                                                             monkeypatch):
  report = "RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes\nall of it"

  def jit(*_):
    def step(*_):
      raise jax.errors.JaxRuntimeError(report)
    return step
  monkeypatch.setattr(steps, "jit_train_step", jit)
  with pytest.raises(errors.HbmError, match="E-HBM: .*allocating 99 bytes.*"
                     "per_device_batch .now 8.*remat") as told:
    run(load(routes), tmp_path)
  assert told.value.status == 2
  assert (tmp_path / mishaps.REPORT).read_text() == report


def test_other_mistakes_are_not_hidden(tmp_path):
  config = None
  for error in (OSError(errno.EBADF, "ours"), ValueError("ours"),
                jax.errors.JaxRuntimeError("INTERNAL: ours")):
    with pytest.raises(type(error), match="ours"):
      with mishaps.told(str(tmp_path), config):
        raise error


def saved(run_dir, step):
  """Waits until the step, which is saved in the background, is there."""
  folder = str(run_dir / "checkpoints")
  kit.wait_until(lambda: step in stepfolders.finished(folder))


@pytest.mark.slow
def test_read_only_storage_is_a_line_and_a_run_goes_on_when_it_is_mended(
    routes, undisturbed, tmp_path, monkeypatch):
  """A real mount that turns read-only under a run, and back."""
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  with kit.disk(tmp_path / "disk", "size=100m") as remount:
    run_dir = tmp_path / "disk" / "run"
    with monkeypatch.context() as patch:
      interrupt(patch, 4, lambda: (saved(run_dir, 3), remount("ro")))
      with pytest.raises(errors.StorageError, match="E-.*Read-only"):
        run(load(routes), run_dir)
    with pytest.raises(errors.StorageError, match="E-DISK.*Read-only"):
      run(load(routes), run_dir)
    remount("rw")
    status, said = run(load(routes), run_dir)
    assert status == 0 and said[0].startswith("resume: step 3,")
    assert_equal(params_of(run_dir), params_of(undisturbed))
    assert [line["step"] for line in log_of(run_dir)] == list(range(1, 9))


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_step(routes, undisturbed, tmp_path,
                                              monkeypatch):
  """A real mount that something else fills up, and frees again."""
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  with kit.disk(tmp_path / "disk", "size=100m"):
    run_dir, ballast = tmp_path / "disk" / "run", tmp_path / "disk" / "other"

    def fill():
      with open(ballast, "wb", buffering=0) as file:
        while True:
          try:
            file.write(bytes(1 << 20))
          except OSError:
            break
    with monkeypatch.context() as patch:
      interrupt(patch, 5, lambda: (saved(run_dir, 3), fill()))
      with pytest.raises(errors.StorageError, match="E-.*Last good: 3"):
        run(load(routes), run_dir)
    ballast.unlink()
    status, said = run(load(routes), run_dir)
    assert status == 0 and said[0].startswith("resume: step 3,")
    assert_equal(params_of(run_dir), params_of(undisturbed))
    assert [line["step"] for line in log_of(run_dir)] == list(range(1, 9))
