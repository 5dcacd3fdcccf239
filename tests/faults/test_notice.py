"""SIGTERM at any moment: nothing is waited for while nothing can be saved."""

import json
import os
import signal
import subprocess

import pytest

from data_pipeline import errors
from data_pipeline.miniworld import pool, recorder, worker
from drivemoe_jax import preemption
from tests.faults import kit
from tests.small_run import ROOT

# The work is a call into C without Python's lock, as a compilation is.
CHILD = """
import hashlib, sys
from drivemoe_jax import preemption
with preemption.Notice() as notice:
  before = notice.asked() if sys.argv[1] == "kept" else None
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[2]))
  print(before, notice.asked(), flush=True)
"""


def test_a_notice_during_a_long_call_ends_the_process_at_once():
  child = kit.python(CHILD, "leave", 10**9)  # minutes
  assert child.stdout.readline() == "ready\n"
  child.terminate()
  out, _ = child.communicate(timeout=60)
  assert child.returncode == preemption.PREEMPTED == 75
  assert out == preemption.LAST_WORDS.decode()


def test_a_notice_is_kept_while_there_is_something_to_save():
  child = kit.python(CHILD, "kept", 3 * 10**6)
  assert child.stdout.readline() == "ready\n"
  child.terminate()
  child.terminate()  # another one changes nothing
  out, _ = child.communicate(timeout=60)
  assert (child.returncode, out) == (0, "False True\n")


def test_notices_nest_and_leave_all_as_it_was():
  before = signal.getsignal(signal.SIGTERM)
  pipe = signal.set_wakeup_fd(-1)
  with preemption.Notice() as outer:
    assert not outer.asked()
    with preemption.Notice() as inner:
      assert not inner.asked()
      signal.raise_signal(signal.SIGTERM)
      assert inner.asked()
    assert not outer.asked()
    signal.raise_signal(signal.SIGTERM)
    assert outer.asked()
  assert signal.getsignal(signal.SIGTERM) == before
  assert signal.set_wakeup_fd(pipe) == -1


def test_the_train_command_listens_from_its_first_line(tmp_path, monkeypatch):
  from launch import pod, train
  listening = []
  monkeypatch.setattr(pod, "run", lambda *_: listening.append(
      kit.catches_sigterm(os.getpid())))
  flags = ["--config", os.path.join(ROOT, "configs", "tiny.py"), "--workdir",
           str(tmp_path)]
  several = ["--coordinator", "h:1", "--processes", "2", "--process-id", "0"]
  assert train.main(flags) == 0
  assert train.main([*flags, *several]) == 0
  assert listening == [True, False]  # of several hosts jax listens


def test_a_recording_process_goes_with_its_parent(tmp_path):
  out = tmp_path / "data"
  recorder.record(str(out), ["TJunction"], [0], [9000], size=(32, 32),
                  max_frames=1, workers=1)
  job = {"out_dir": str(out), "kind": "TJunction", "seed": 5, "quality": 90,
         "size": [320, 180], "max_frames": 10**6, "handover_frames": 0}
  child = kit.command(worker.__name__, stdin=subprocess.PIPE)
  child.stdin.write(json.dumps(job) + "\n")
  child.stdin.flush()
  kit.wait_until(lambda: list(out.glob(".part_*")), child)
  child.communicate(timeout=60)  # closes its input
  assert child.returncode == 0
  assert len(list((out / "routes").iterdir())) == 2  # those of before


def test_a_recording_process_that_dies_is_told_in_a_line(tmp_path,
                                                         monkeypatch):
  class Child:
    def run(self, job):
      raise pool.Died("the process ended with status -9")

    def close(self):
      pass

  monkeypatch.setattr(pool, "Child", lambda module: Child())
  with pytest.raises(errors.UserError, match="status -9; free memory"):
    recorder.record(str(tmp_path / "data"), ["TJunction"], [0], [9000])
