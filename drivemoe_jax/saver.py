"""When a run's state goes to disk, and what happens if it does not get there.

Nothing is saved between a non-finite update and the next finite one. A save
that failed in the background is told at the next step and tried again with
the state of then, after a pause in which training goes on; then the run ends.
"""

import collections
import re
import time

import numpy as np

from data_pipeline import errors
from drivemoe_jax import stepfolders

BACK_OFF_S = (1.0, 10.0, 60.0)  # before each retry


class Saver:
  """Asks `checkpoint.Checkpoints` to save, at the right steps."""

  def __init__(self, saved, *, every, keep_best, say, hosts=1):
    """Args as follows.

    saved: checkpoint.Checkpoints. every: updates between saves.
    keep_best: "min:NAME" or "max:NAME" of a logged metric, or "". The score
      of a step is its mean over the last `every` updates.
    say: prints a line.
    hosts: that save together. Their clocks differ and none may save alone, so
      that several try again when the next save is due anyhow.
    """
    if keep_best and not re.fullmatch(r"(min|max):\w+", keep_best):
      raise errors.ConfigError(
          f"keep_best {keep_best!r}: write min:NAME or max:NAME of a metric in "
          "metrics.jsonl, as min:loss, or nothing")
    self._saved, self._every, self._rule = saved, every, keep_best
    self._say, self._hosts = say, hosts
    self._scores = collections.deque(maxlen=every)
    self._healthy, self._put_off = True, False
    self._failures, self._try_at = 0, None

  def note(self, values):
    """Takes in the metrics of an update, before it is saved."""
    self._healthy = not values["skipped_in_a_row"]
    name = self._rule.partition(":")[2]
    if name and name not in values:
      raise errors.ConfigError(
          f"keep_best {self._rule}: no metric {name}; there are "
          f"{sorted(values)}")
    if name and self._healthy:
      self._scores.append(float(values[name]))

  def due(self, step):
    """Whether to save after `step`, an update whose metrics are not known yet.

    Raises:
      SaveError: the last save failed as often as it may.
    """
    self._look()
    return (step % self._every == 0 or self._put_off
            or self._hosts == 1 and self._try_at is not None
            and time.monotonic() >= self._try_at)

  def save(self, step, trees, meta, last=False):
    """Begins to save a state whose metrics were noted; see Checkpoints.save.

    Args:
      last: no update follows: wait until it is on disk, finite or not.

    Raises:
      SaveError: the last save failed as often as it may.
    """
    self._look(wait=True)
    self._put_off = not (self._healthy or last)
    if self._put_off:
      return
    meta = meta | {"healthy": self._healthy, "score": {}}
    if self._rule and len(self._scores) == self._every:
      meta["score"] = {self._rule: float(np.mean(self._scores))}
    self._try_at = None
    self._saved.save(step, trees, meta)
    while last:
      self._look(wait=True)
      if self._try_at is None:
        break
      time.sleep(max(0.0, self._try_at - time.monotonic()))
      self._try_at = None
      self._saved.save(step, trees, meta)

  def last_healthy(self):
    """Newest step that was saved while updates were finite, for a run's end.

    Waits for the save under way; tells of its failure without raising it.
    """
    found = self._saved.outcome(wait=True, alone=True)
    if found and found.error:
      self._say(f"E-SAVE: {self._told(found)}")
    return stepfolders.last_healthy(self._saved.steps())

  def close(self):
    """Ends the saving; told and not raised is what `last_healthy` tells."""
    self.last_healthy()
    self._saved.close()

  def _look(self, wait=False):
    """Reacts to the end of a save."""
    found = self._saved.outcome(wait)
    if found is None:
      return
    if found.error is None:
      self._failures = 0
      return
    told, tries = self._told(found), len(BACK_OFF_S)
    if self._failures == tries:
      raise errors.SaveError(
          f"{told}. Tried {tries + 1} times: free space there or make it "
          "writable, and start again") from found.error
    pause = BACK_OFF_S[self._failures]
    self._failures += 1
    self._say(f"E-SAVE: {told}. Retry {self._failures}/{tries} "
              + (f"in {pause:g} s" if self._hosts == 1
                 else "at the next save"))
    self._try_at = time.monotonic() + pause

  def _told(self, found):
    return (f"step {found.step} not saved in {self._saved.workdir} "
            f"({found.why}). Last good: {self._saved.latest()}")
