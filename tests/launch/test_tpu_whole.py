"""pod.sh and worker.sh together: two local folders play a slice's workers.

`gcloud ... ssh` runs the command that pod.sh made in each worker's folder, and
the bucket is a folder; only packages, mounts and the training are stubs.
"""

import os
import re
import shutil
import subprocess

import pytest

from tests.launch.tpu_stub import SETTINGS, TPU

GCLOUD = r"""#!/usr/bin/env bash
object() { echo "$STUB/objects/${1##*/}"; }
case "$*" in
  "storage cp --quiet "*) ;;  # a worker's console log
  "storage cp"*) cp "${*:(-2):1}" "$(object "${!#}")" ;;
  "storage cat"*) cat "$(object "${!#}")" ;;
  *"buckets describe"*) echo US-WEST4,True ;;
  *"queued-resources describe"*) cat "$STUB/state" ;;
  *"tpu-vm describe"*) printf '10.0.0.1\n10.0.0.2\n' ;;
  *"tpu-vm scp"*) cp "$STUB/host-w-0/drivemoe/state/train.log" "$LOGS/" ;;
  *"tpu-vm ssh"*)
    for host in host-w-0 host-w-1; do
      mkdir -p "$STUB/$host"
      HOME="$STUB/$host" HOST="$host" bash -c "${!##--command=}" &
    done
    wait
    ;;
esac
"""
STUBS = {
    "gcloud": GCLOUD,
    "git": r"""#!/usr/bin/env bash
case "$*" in
  *rev-parse*) echo c0ffee ;;
  *archive*) tar -czf "${5#--output=}" -C "$STUB/tree" . ;;
esac
""",
    "hostname": '#!/bin/sh\necho "$HOST"\n',
    "python3.11": "#!/bin/sh\n", "gcsfuse": "#!/bin/sh\n",
    "fusermount": "#!/bin/sh\n", "mountpoint": "#!/bin/sh\n",
}
# The first attempt of worker 1 loses its peer, the second finishes.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  *launch.train*)
    printf '%s\n' "$@" >>"$HOME/arguments"
    [ "$HOST" = host-w-1 ] && [ ! -e "$HOME/tried" ] ||
      exit "$(cat "$STUB/code")"
    : >"$HOME/tried"
    echo "E-PEER: process 0 is gone"
    exit 6
    ;;
esac
"""


@pytest.fixture
def resume(tmp_path):
  """Runs pod.sh resume; (exit status, standard output, standard error)."""
  files = {f"bin/{name}": text for name, text in STUBS.items()} | {
      "tree/.venv/bin/python": PYTHON, "tree/launch/setup.sh": "",
      "state": "ACTIVE\n"}
  for name, text in files.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
  (tmp_path / "tree" / "launch" / "tpu").mkdir()
  (tmp_path / "objects").mkdir()
  shutil.copy(TPU / "worker.sh", tmp_path / "tree" / "launch" / "tpu")

  def run(code, **env):
    (tmp_path / "code").write_text(code)
    env = SETTINGS | {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "POLL_S": "0",
        "HOME": str(tmp_path), "STUB": str(tmp_path),
        "LOGS": str(tmp_path / "logs")} | env
    done = subprocess.run([TPU / "pod.sh", "resume"], env=env, text=True,
                          capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr

  run.folder = tmp_path
  return run


def test_a_run_is_installed_relaunched_and_finished_on_both_workers(resume):
  status, out, err = resume(
      "0", TRAIN_ARGS="""--config.seed=1 --config.note="it's" """)
  assert (status, err) == (0, "")
  assert "host-w-1: exit 6 E-PEER: process 0 is gone" in out
  assert "relaunch 1 of at most 100: failed" in out
  for host in ("host-w-0", "host-w-1"):
    home = resume.folder / host
    assert os.readlink(home / "drivemoe" / "current").endswith("code/c0ffee")
    words = (home / "arguments").read_text().split("\n")
    assert words[:-1] == 2 * [
        "-m", "launch.train", "--config", "configs/stage1.py", "--workdir",
        "bucket/runs/a", "--distributed", "auto",
        "--config.compile_cache=bucket/cache/xla", "--config.seed=1",
        """--config.note="it's\""""]
  assert "--- started" in (resume.folder / "logs" / "train.log").read_text()


def test_a_fatal_end_on_one_worker_is_told_with_its_line(resume):
  status, _, err = resume("4")
  assert status == 4
  # Worker 0, or worker 1 in its second attempt, whichever is seen first.
  assert re.match("E-TPU: no relaunch mends this: host-w-[01]: exit 4", err)
