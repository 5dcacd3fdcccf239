"""A wall clock that jumps: nothing waits for it or is measured by it."""

import itertools
import pathlib
import re
import time

import pytest

from drivemoe_jax import datasets, logs, saver
from tests.small_run import ROOT, assert_equal, load, log_of, params_of, run


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing_but_the_dates(
    routes, undisturbed, tmp_path, monkeypatch):
  """Back by an hour, forward by ten years, and more, from batch to batch.

  A save under way may take ten years for its time limit and is tried again.
  """
  real, jumps = time.time, [0.0, -3600.0, 3e8, 0.0, -7e8, 1e3, 0.0, 3e8]
  ahead = [0.0]
  monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
  monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
  monkeypatch.setattr(saver, "BACK_OFF_S", (0.0, 0.0, 0.0))
  given = datasets.train_batches

  def batches(*args):
    for batch, ahead[0] in zip(given(*args), itertools.cycle(jumps)):
      yield batch

  monkeypatch.setattr(datasets, "train_batches", batches)
  status, lines = run(load(routes), tmp_path)
  assert status == 0 and lines[-1] == "done: step 8"
  assert_equal(params_of(tmp_path), params_of(undisturbed))
  found = log_of(tmp_path)
  assert [line["loss"] for line in found] == [
      line["loss"] for line in log_of(undisturbed)]
  assert all(line["step_seconds"] >= 0 and line["samples_per_second"] > 0
             and 0 <= line["data_wait_share"] <= 1 for line in found)
  dates = [line["time"] for line in found]
  assert dates != sorted(dates)


def test_events_of_a_clock_that_stands_still_are_not_removed(tmp_path,
                                                             monkeypatch):
  monkeypatch.setattr(time, "time_ns", lambda: 17)
  sizes = [0]
  for done in range(3):
    log = logs.Log(str(tmp_path), done)
    log.write(done + 1, {"loss": 1.0})
    log.close()
    file, = (tmp_path / "tensorboard").iterdir()
    sizes.append(file.stat().st_size)
  assert sizes == sorted(set(sizes))  # each time a line more


def test_no_duration_is_measured_by_the_wall_clock():
  """time.time() dates lines for people, in the logs alone."""
  users = set()
  for package in ("data_pipeline", "drivemoe_jax", "launch"):
    for path in pathlib.Path(ROOT, package).rglob("*.py"):
      if re.search(r"\btime\.time\(", path.read_text(encoding="utf-8")):
        users.add(path.name)
  assert users == {"logs.py"}
