"""When a state is saved: health, scores, retries and their end."""

import pytest

from data_pipeline import errors
from drivemoe_jax import saver as saver_lib
from drivemoe_jax.checkpoint import Outcome


class Disk:
  """Checkpoints whose saves end at once, or fail while `broken`."""

  workdir = "W"

  def __init__(self):
    self.saved, self.broken, self._outcome = {}, False, None

  def save(self, step, trees, meta):
    if self.broken:
      self._outcome = Outcome(step, OSError("disk full"))
    else:
      self.saved[step] = meta
      self._outcome = Outcome(step, None)

  def outcome(self, wait=False, alone=False):
    found, self._outcome = self._outcome, None
    return found

  def steps(self):
    return self.saved

  def latest(self):
    return max(self.saved, default=None)

  def close(self):
    pass


@pytest.fixture
def clock(monkeypatch):
  """Time that passes only in sleep."""
  class Clock:
    now, naps = 0.0, []

    def monotonic(self):
      return self.now

    def sleep(self, seconds):
      self.naps = [*self.naps, seconds]
      self.now += seconds
  clock = Clock()
  monkeypatch.setattr(saver_lib, "time", clock)
  return clock


def make(every=2, keep_best="min:loss", hosts=1):
  disk, said = Disk(), []
  return disk, said, saver_lib.Saver(disk, every=every, keep_best=keep_best,
                                     say=said.append, hosts=hosts)


def drive(saver, steps, bad=(), total=None):
  """Updates of loss = step; those in `bad` were not finite."""
  for step in steps:
    if saver.due(step) or step == total:
      saver.note(values(step, bad))
      saver.save(step, {}, {}, last=step == total)
    else:
      saver.note(values(step, bad))


def values(step, bad):
  return {"loss": float("nan") if step in bad else step,
          "skipped_in_a_row": int(step in bad)}


def test_a_score_is_the_mean_since_the_save_before():
  disk, _, saver = make()
  drive(saver, range(1, 6), total=5)
  assert {s: meta["score"] for s, meta in disk.saved.items()} == {
      2: {"min:loss": 1.5}, 4: {"min:loss": 3.5}, 5: {"min:loss": 4.5}}
  disk, _, saver = make(keep_best="")
  drive(saver, range(1, 3))
  assert disk.saved[2]["score"] == {}


def test_nothing_is_saved_until_updates_are_finite_again():
  disk, _, saver = make()
  drive(saver, range(1, 8), bad=(4, 5))
  assert list(disk.saved) == [2, 6]
  assert all(meta["healthy"] for meta in disk.saved.values())
  assert disk.saved[6]["score"] == {"min:loss": 4.5}  # of 3 and 6


def test_a_run_that_ends_is_saved_but_not_as_healthy():
  disk, _, saver = make()
  drive(saver, range(1, 6), bad=(4, 5), total=5)
  assert {s: meta["healthy"] for s, meta in disk.saved.items()} == {
      2: True, 5: False}
  assert saver.last_healthy() == 2


def test_a_failed_save_is_told_at_the_next_step_and_tried_after_a_pause(clock):
  disk, said, saver = make()
  drive(saver, [1, 2])
  disk.broken = True
  drive(saver, [3, 4])
  assert not said
  drive(saver, [5])
  assert said == ["E-SAVE: step 4 not saved in W (disk full). Last good: 2. "
                  "Retry 1/3 in 1 s"]
  disk.broken, clock.now = False, clock.now + 1.5
  drive(saver, [7])  # between the steps that are due
  assert list(disk.saved) == [2, 7]
  drive(saver, [9])
  disk.broken = True  # what failed before counts no more
  drive(saver, [10, 11])
  assert "Last good: 7. Retry 1/3" in said[1]


def test_several_hosts_try_again_together_whatever_their_clocks_say(clock):
  disk, said, saver = make(every=4, hosts=2)
  disk.broken = True
  drive(saver, range(1, 6))
  disk.broken = False
  clock.now += 100
  drive(saver, range(6, 8))
  assert not disk.saved and "at the next save" in said[0]
  drive(saver, range(8, 9))
  assert list(disk.saved) == [8]


def test_the_run_ends_when_no_try_succeeds(clock):
  disk, said, saver = make()
  disk.broken = True
  with pytest.raises(errors.SaveError) as caught:
    for step in range(2, 100):
      drive(saver, [step])
      clock.now += 40
  assert [line.split("Retry ")[1] for line in said] == [
      "1/3 in 1 s", "2/3 in 10 s", "3/3 in 60 s"]
  told = str(caught.value)
  assert told.startswith("E-SAVE: step") and "Last good: None" in told
  assert "Tried 4 times" in told and caught.value.status == 4


def test_the_last_save_waits_for_its_retries(clock):
  disk, said, saver = make()
  disk.broken = True
  with pytest.raises(errors.SaveError):
    drive(saver, [1], total=1)
  assert clock.naps == [1.0, 10.0, 60.0]


def test_closing_tells_of_a_failure_and_hides_no_other_error():
  disk, said, saver = make()
  disk.broken = True
  drive(saver, [1, 2])
  saver.close()
  assert said == ["E-SAVE: step 2 not saved in W (disk full). Last good: None"]


@pytest.mark.parametrize("rule, told", [
    ("loss", "write min:NAME"), ("min:fun", "no metric fun; .*'loss'")])
def test_a_rule_that_names_nothing_is_a_mistake(rule, told):
  with pytest.raises(errors.ConfigError, match=told):
    drive(make(keep_best=rule)[2], [1])
