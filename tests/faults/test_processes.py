"""Real trainings, stopped from outside at each of their moments."""

import os
import signal

import pytest

from data_pipeline.miniworld import recorder
from launch import attack, victims
from tests.faults import kit

pytestmark = pytest.mark.slow
NOTICE_S = 30  # that a machine gives before it goes away


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """Data, a cache of programs, and a twin that nobody disturbed."""
  folder = tmp_path_factory.mktemp("faults")
  recorder.record(str(folder / "data"), attack.SCENES, range(1),
                  range(9000, 9001), size=(64, 36), max_frames=20, workers=1)
  twin = victim(folder, "twin", keep_last=0)
  child = twin.start(fresh=True)
  assert child.wait() == 0, child.said()
  return folder, twin.end()


def victim(folder, name, cold=False, **more):
  cache = folder / (f"{name}-cache" if cold else "cache")
  return victims.Training(str(folder / name), str(folder / "data"), str(cache),
                          **more)


def until(child, condition):
  kit.wait_until(lambda: not child.running() or condition())
  assert child.running(), child.said()


@pytest.mark.parametrize("moment", ["start", "compile", "steps", "save"])
def test_a_notice_at_any_moment_saves_and_leaves_in_time(place, moment):
  folder, twin = place
  it = victim(folder, f"notice-{moment}", cold=moment == "compile")
  child = it.start(fresh=True)
  until(child, lambda: kit.catches_sigterm(child.pid))
  until(child, lambda: it.phase(child) == moment)
  before = it.good()
  child.signal(signal.SIGTERM)
  start = kit.time.monotonic()
  assert child.wait() == 75, child.said()
  assert kit.time.monotonic() - start < NOTICE_S  # the promise itself
  assert child.said().splitlines()[-1].startswith("preempted:")
  assert it.good() > before if moment in ("steps", "save") else it.good() == 0
  finish(it, twin)


def test_more_notices_during_the_save_change_nothing(place):
  folder, twin = place
  it = victim(folder, "twice")
  child = it.start(fresh=True)
  until(child, lambda: it.phase(child) == "steps")
  while child.running():
    child.signal(signal.SIGTERM)
    kit.time.sleep(0.001)
  assert child.status == 75, child.said()
  finish(it, twin)


def finish(it, twin):
  child = it.start(fresh=True)
  assert child.wait() == 0, child.said()
  assert it.same(it.end(), twin)
  assert f"step {victims.TRAINING['total_updates']}" in it.end()


def test_a_host_that_runs_out_of_memory_leaves_in_time(place):
  """A budget that the process is beyond from the start."""
  folder, twin = place
  it = victim(folder, "memory")
  it.argv.append("--config.host_memory_gb=0.1")
  child = it.start(fresh=True)
  assert child.wait() == 75, child.said()
  assert child.said().count("W-RAM: host 0 holds") == 3
  assert 1 <= it.good() <= 3
  it.argv.pop()
  finish(it, twin)


def test_a_cache_of_programs_that_is_spoilt_is_only_slow(place):
  folder, twin = place
  cache = folder / "spoilt-cache"
  it = victim(folder, "spoilt", cold=True)
  child = it.start(fresh=True)
  assert child.wait() == 0
  for entry in cache.rglob("*"):
    if entry.is_file():
      os.truncate(entry, entry.stat().st_size // 2)
  again = victims.Training(str(folder / "again"), str(folder / "data"),
                           str(cache))
  finish(again, twin)
