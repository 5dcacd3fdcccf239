"""worker.sh: one training on a worker, its end and its exit code."""

import fcntl
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.launch.tpu_stub import TPU

TRAIN = r"""#!/usr/bin/env bash
echo "$*" >>"$WORKER_BASE/args"
trap 'echo "preempted: step 5"; exit 75' TERM
echo "E-OLD: of an earlier start"
echo "--- started now"
echo "step 1/9"
while [ ! -e "$WORKER_BASE/code" ]; do sleep 0.05; done
code="$(cat "$WORKER_BASE/code")"
[ "$code" != 4 ] || echo "E-CKPT: it is torn" >&2
exit "$code"
"""


@pytest.fixture
def worker(tmp_path):
  """Runs worker.sh in a tree whose Python is TRAIN."""
  script = tmp_path / "tree" / "launch" / "tpu" / "worker.sh"
  script.parent.mkdir(parents=True)
  shutil.copy(TPU / "worker.sh", script)
  python = tmp_path / "tree" / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(TRAIN)
  python.chmod(0o755)
  (tmp_path / "bin").mkdir()
  gcloud = tmp_path / "bin" / "gcloud"
  gcloud.write_text('#!/bin/sh\necho "$*" >>"$WORKER_BASE/copied"\n')
  gcloud.chmod(0o755)
  env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
         "HOME": str(tmp_path), "WORKER_BASE": str(tmp_path / "base"),
         "BUCKET": "buck",
         "CONFIG": "c.py", "RUN": "runs/a", "DATA": "prepared",
         "TRAIN_ARGS": "--config.seed=1"}

  def run(verb, **more):
    done = subprocess.run(["bash", script, verb], env=env | more, text=True,
                          capture_output=True, timeout=30)
    line = done.stdout.splitlines()[-1].split(" ", 2)
    assert line[0] == "STATUS", done
    return line[2]

  run.base = tmp_path / "base"
  yield run
  pid = run.base / "state" / "pid"
  if pid.exists():
    try:
      os.killpg(int(pid.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      pass


STUBS = {  # name -> what it does beside writing down how it was called
    "python3.11": "exit 1", "python3.12": "exit 1", "python3.13": "exit 1",
    "python3": '[ "$1" != -c ]',  # too old, but it has pip
    "uv": '[ "$2" != find ] || echo uvs-python', "mountpoint": "exit 1",
    "gcsfuse": ":", "fusermount": ":", "sudo": "exit 1",
}


def put_stubs(folder, **more):
  """Puts STUBS, a setup.sh and a Python that write down their calls."""
  for name, does in (STUBS | more).items():
    path = folder / (".local/bin" if name == "uv" else "bin") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>"$WORKER_BASE/calls"\n'
                    f"{does}\n")
    path.chmod(0o755)
  (folder / "tree" / "launch" / "setup.sh").write_text(
      'echo "setup $PYTHON" >>"$WORKER_BASE/calls"\n')
  (folder / "tree" / ".venv" / "bin" / "python").write_text(
      '#!/bin/sh\necho "venv $*" >>"$WORKER_BASE/calls"\n')


@pytest.mark.parametrize("cache", ["0", "40"])
def test_install_brings_a_python_and_mounts_the_bucket(worker, cache):
  folder = worker.base.parent
  put_stubs(folder)
  assert worker("install", DATA_CACHE_GB=cache) == "ready"
  calls = (worker.base / "calls").read_text().splitlines()
  assert "setup uvs-python" in calls
  assert [c for c in calls if "-e .[tpu]" in c]
  runs, data = [c for c in calls if c.startswith("gcsfuse")]
  assert runs == (
      "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "
      f"--metadata-cache-negative-ttl-secs=0 buck {worker.base}/bucket")
  assert data.startswith("gcsfuse -o ro --implicit-dirs --only-dir=prepared ")
  assert ("--file-cache-max-size-mb=40960" in data) == (cache == "40")
  tree = folder / "tree"
  assert os.readlink(tree / "bucket") == f"{worker.base}/bucket"
  assert os.readlink(tree / "prepared") == f"{worker.base}/data"
  assert os.readlink(worker.base / "current") == str(tree)
  (worker.base / "calls").unlink()
  assert worker("install") == "ready"  # now without pip
  assert "-e .[tpu]" not in (worker.base / "calls").read_text()


def test_install_mounts_again_what_other_settings_ask_for(worker):
  put_stubs(worker.base.parent, mountpoint='[ -e "$2.mount" ]')

  def mounts(**env):
    """Which folders were unmounted and mounted; the unmounts come first."""
    (worker.base / "calls").unlink(missing_ok=True)
    assert worker("install", **env) == "ready"
    words = [line.split() for line in
             (worker.base / "calls").read_text().splitlines()]
    done = [(w[0], os.path.basename(w[-1])) for w in words
            if w[0] in ("fusermount", "gcsfuse")]
    assert [name for name, _ in done] == (
        len(done) // 2 * ["fusermount", "gcsfuse"])
    return [folder for name, folder in done if name == "gcsfuse"]

  assert mounts() == ["bucket", "data"]
  assert mounts() == []
  assert mounts(DATA_CACHE_GB="40") == ["data"]
  assert mounts(DATA_CACHE_GB="40", DATA="other") == ["data"]
  assert mounts(DATA_CACHE_GB="40", DATA="other", BUCKET="b2") == [
      "bucket", "data"]
  assert mounts(DATA_CACHE_GB="40", DATA="other", BUCKET="b2") == []
  assert not list((worker.base / "bucket").iterdir())
  put_stubs(worker.base.parent, gcsfuse="exit 1", mountpoint="true")
  assert worker("install") == "exit 1 install failed"
  put_stubs(worker.base.parent, mountpoint="true")  # which one is not known
  assert mounts(DATA_CACHE_GB="40", DATA="other", BUCKET="b2")[0] == "bucket"


def test_install_leaves_a_running_trainings_mounts_alone(worker):
  state = worker.base / "state"
  state.mkdir(parents=True)
  put_stubs(worker.base.parent, mountpoint='[ -e "$2.mount" ]')
  assert worker("install") == "ready"
  with open(state / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    (worker.base / "calls").unlink()
    assert worker("install") == "ready"
    assert worker("install", BUCKET="b2") == "exit 2 install failed"
    assert "fusermount" not in (worker.base / "calls").read_text()


def settle(run, wanted):
  """Polls until the worker's status begins with `wanted`."""
  end = time.monotonic() + 20
  while not (status := run("status")).startswith(wanted):
    assert time.monotonic() < end, status
    time.sleep(0.05)
  return status


def test_a_worker_starts_one_training_and_keeps_its_exit_code(worker):
  assert worker("status") == "idle"
  assert worker("start").startswith("running")
  assert settle(worker, "running step 1/9")
  assert worker("start").startswith("running")  # the same one
  (worker.base / "code").write_text("4")
  assert settle(worker, "exit") == "exit 4 E-CKPT: it is torn"
  args = (worker.base / "args").read_text().splitlines()
  assert args == [
      "-m launch.train --config c.py --workdir bucket/runs/a --distributed "
      "auto --config.compile_cache=bucket/cache/xla "
      "--config.data.root=prepared --config.seed=1"]
  assert "gs://buck/runs/a/console/" in (worker.base / "copied").read_text()


def test_an_earlier_starts_reason_is_not_told_again(worker):
  worker.base.mkdir(exist_ok=True)
  (worker.base / "code").write_text("9")
  worker("start")
  assert settle(worker, "exit") == "exit 9 "


def test_preflight_gets_only_the_configs_flags_of_trains(worker):
  worker.base.mkdir(exist_ok=True)
  (worker.base / "code").write_text("0")
  more = "--accept-change data --config.seed=1 --dry-run --config.name=a=b"
  assert worker("preflight", TRAIN_ARGS=more) == "ready"
  worker("start", TRAIN_ARGS=more)
  settle(worker, "exit 0")
  checked, trained = (worker.base / "args").read_text().splitlines()
  assert checked.startswith("-m launch.preflight ")
  assert checked.endswith(" --config.data.root=prepared --config.seed=1 "
                          "--config.name=a=b")
  assert trained.endswith(f" --config.data.root=prepared {more}")
  assert worker("preflight", TRAIN_ARGS="--accept-change data") == "ready"


def test_stop_lets_the_training_save(worker):
  worker("start")
  settle(worker, "running step")
  assert worker("stop") == "idle"
  log = (worker.base / "state" / "train.log").read_text()
  assert log.splitlines()[-1] == "preempted: step 5"
  assert worker("status") == "idle"


def test_stop_clears_the_code_of_a_training_that_ended_before(worker):
  worker.base.mkdir(exist_ok=True)
  (worker.base / "code").write_text("0")
  worker("start")
  settle(worker, "exit 0")
  assert worker("stop") == "idle"
  assert worker("status") == "idle"


def test_a_training_that_left_no_code_is_lost(worker):
  worker("start")
  settle(worker, "running step")
  os.killpg(int((worker.base / "state" / "pid").read_text()), signal.SIGKILL)
  assert settle(worker, "lost")


def test_preflight_passes_its_code_on(worker):
  worker.base.mkdir(exist_ok=True)
  (worker.base / "code").write_text("6")
  assert worker("preflight") == "exit 6 preflight failed"
  (worker.base / "code").write_text("0")
  assert worker("preflight") == "ready"
