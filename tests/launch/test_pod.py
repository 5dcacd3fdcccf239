"""The parent of a host's process: what it passes on, and what it explains."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ["--coordinator", "127.0.0.1:9", "--processes", "4", "--process-id", "0"]


def command(workdir, *flags):
  return [sys.executable, "-m", "tests.launch.pod_child", "--workdir",
          str(workdir), *flags]


def run(workdir, *flags):
  """(status, standard output, lines of standard error) of a host."""
  done = subprocess.run(command(workdir, *flags), cwd=ROOT, text=True,
                        capture_output=True, timeout=60)
  return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("mode, told", [
    ("lost", "lost process 2 (of 4); start"),
    ("lost two", "lost process 1, 3 (of 4); start"),
    ("no coordinator", "lost process 0 (of 4); start"),
    ("not joined", "127.0.0.1:9 did not take this host in within 300 s"),
])
def test_an_abort_becomes_one_line_and_status_6(tmp_path, mode, told):
  status, _, lines = run(tmp_path, mode, *HERE)
  assert status == 6 and len(lines) == 1
  assert lines[0].startswith(f"E-PEER: {told}")
  log = tmp_path / "logs" / "process-0.log"
  assert lines[0].endswith(f"log: {log}")
  assert "Terminating process" in log.read_text()


def test_the_lost_one_s_own_words_are_told(tmp_path):
  status, _, lines = run(tmp_path, "bad data", *HERE[:-1], "2")
  assert (status, lines) == (3, ["E-DATA: shard 17 is broken"])
  _, _, lines = run(tmp_path, "lost", *HERE)
  assert "process 2 said: E-DATA: shard 17 is broken" in lines[0]


def test_who_loses_process_0_asks_its_log_whom_that_lost(tmp_path):
  run(tmp_path, "lost", *HERE)
  _, _, lines = run(tmp_path, "no coordinator", *HERE[:-1], "1")
  assert lines[0].startswith("E-PEER: lost process 2 ")


def test_an_earlier_start_explains_nothing(tmp_path):
  run(tmp_path, "lost", *HERE)
  run(tmp_path, "0", *HERE)
  _, _, lines = run(tmp_path, "no coordinator", *HERE[:-1], "1")
  assert lines[0].startswith("E-PEER: lost process 0 ")


@pytest.mark.parametrize("status", [0, 75])
def test_other_ends_are_passed_on(tmp_path, status):
  got, out, lines = run(tmp_path, str(status), *HERE)
  assert (got, lines) == (status, [])
  assert "127.0.0.1:9" in out and "process_id=0" in out


@pytest.mark.parametrize("mode, status, told", [
    ("bug", 1, "KeyError: 'a bug'"), ("killed", 137, "signal 9")])
def test_what_nothing_explains_shows_the_log_s_end(tmp_path, mode, status,
                                                   told):
  got, _, lines = run(tmp_path, mode, *HERE)
  assert got == status and told in "\n".join(lines)
  assert lines[-1].endswith("process-0.log")


def test_a_signal_after_an_error_is_a_shell_s_status(tmp_path):
  assert run(tmp_path, "told and killed", *HERE)[::2] == (
      137, ["E-DATA: shard 17 is broken"])


def sleeping(workdir):
  """(parent, pid of its child) that wait to be ended."""
  parent = subprocess.Popen(command(workdir, "sleep", *HERE), cwd=ROOT,
                            text=True, stdout=subprocess.PIPE)
  return parent, int(parent.stdout.readline())


def alive(pid):
  try:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
      return file.read().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False


def end(*pids):
  for pid in pids:
    try:
      os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
      pass


def test_sigterm_reaches_the_child(tmp_path):
  parent, child = sleeping(tmp_path)
  try:
    parent.terminate()
    assert parent.wait(timeout=30) == 75 and not alive(child)
  finally:
    end(parent.pid, child)
    parent.stdout.close()


def test_the_child_does_not_outlive_its_parent(tmp_path):
  parent, child = sleeping(tmp_path)
  try:
    parent.kill()
    parent.wait(timeout=30)
    for _ in range(300):
      if not alive(child):
        break
      time.sleep(0.1)
    assert not alive(child)
  finally:
    end(parent.pid, child)
    parent.stdout.close()


def test_standard_output_is_python_s_alone(tmp_path):
  assert run(tmp_path, "chatter", *HERE)[:2] == (0, "ours\n")
  assert "[Gloo] Rank" in (tmp_path / "logs" / "process-0.log").read_text()


def test_one_host_needs_no_parent(tmp_path):
  assert run(tmp_path, "5")[:2] == (5, "place None\n")
  assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("flags, told", [
    (HERE[:2], "--processes and --process-id missing"),
    (HERE[2:], "--coordinator missing"),
    (["--coordinator", "here", *HERE[2:]], "--coordinator here: write HOST"),
    ([*HERE[:-1], "4"], "ids are 0 to 3"),
    (["--distributed", "auto", *HERE[:2]], "auto finds out what --coordin"),
])
def test_flags_that_contradict_each_other(tmp_path, flags, told):
  status, _, lines = run(tmp_path, "0", *flags)
  assert status == 2 and len(lines) == 1
  assert lines[0].startswith("E-CONFIG: ") and told in lines[0]


def test_auto_leaves_the_place_open(tmp_path):
  status, out, _ = run(tmp_path, "0", "--distributed", "auto",
                       "--join-timeout", "7")
  assert status == 0
  assert "coordinator=None" in out and "timeout_s=7.0" in out


def test_a_bucket_is_no_folder(tmp_path):
  status, out, lines = run("gs://bucket/run", "5")
  assert status == 2 and not out and len(lines) == 1
  assert lines[0].startswith("E-CONFIG: --workdir gs://bucket/run")


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  status, _, lines = run(tmp_path / "file" / "run", "0", *HERE)
  assert status == 4 and lines[0].startswith("E-DISK: ")
