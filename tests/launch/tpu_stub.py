"""A Google Cloud for the scripts of launch/tpu: stubs and what they saw.

`gcloud` writes down how it was called, keeps the state of one slice, and lets
the slice's two workers answer by a script. `git` and `kubectl` are stubs too.
"""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
TPU = ROOT / "launch" / "tpu"
SETTINGS = {
    "PROJECT_ID": "proj", "ZONE": "us-west4-a", "TPU_NAME": "moe",
    "ACCELERATOR_TYPE": "v5litepod-16", "BUCKET": "gs://buck/",
    "CONFIG": "configs/stage1.py", "RUN": "runs/a",
}

# $STUB/state is the slice's state. ssh runs a verb of worker.sh on two
# workers: the next line of $STUB/<verb> says what they answer, the last one
# for good. A line of one capital word is the state that the slice changes to,
# and nobody answers.
GCLOUD = r"""#!/usr/bin/env bash
printf '%s\n' "${*//$'\n'/ }" >>"$STUB/calls"
next() {  # file: takes its first line unless it is the only one
  [ -s "$1" ] || return 1
  head -n 1 "$1"
  [ "$(wc -l <"$1")" -le 1 ] || sed -i 1d "$1"
}
case "$*" in
  "apply -f -") cat >/dev/null ;;
  *"buckets describe"*) cat "$STUB/bucket" ;;
  *"queued-resources describe"*)
    state="$(cat "$STUB/state")"
    [ "$state" != ABSENT ] || { echo "NOT_FOUND: no such thing" >&2; exit 1; }
    echo "$state"
    ;;
  *"queued-resources create"*) next "$STUB/created" >"$STUB/state" ;;
  *"queued-resources delete"*) echo ABSENT >"$STUB/state" ;;
  *"tpu-vm describe"*) printf '10.0.0.1\n10.0.0.2\n' ;;
  *worker.sh*)
    verb="${!#}"
    verb="${verb##* }"
    answers="$(next "$STUB/$verb" || echo ready ready)"
    if [[ "$answers" =~ ^[A-Z]+$ ]]; then
      echo "$answers" >"$STUB/state"
      exit 255
    fi
    i=0
    for answer in $answers; do
      [ "$answer" = none ] || echo "STATUS host-w-$i ${answer//_/ }"
      i=$((i + 1))
    done
    ;;
esac
"""
GIT = r"""#!/usr/bin/env bash
case "$*" in
  *rev-parse*) echo c0ffee ;;
  *archive*) echo "git $*" >>"$STUB/calls"; : >"$STUB/archive" ;;
esac
"""


class Stub:
  """A folder with the stubs, and pod.sh run under them."""

  def __init__(self, folder):
    self.folder = folder
    for name, text in (("gcloud", GCLOUD), ("git", GIT), ("kubectl", GCLOUD)):
      (folder / "bin").mkdir(exist_ok=True)
      path = folder / "bin" / name
      path.write_text(text)
      path.chmod(0o755)
    self.put(calls=[], state=["ABSENT"], created=["ACTIVE"],
             bucket=["US-WEST4,True"], status=["idle idle", "exit_0 exit_0"],
             stop=["idle idle"], start=["running running"])

  def put(self, **files):
    """Sets files of lines."""
    for name, lines in files.items():
      (self.folder / name).write_text("".join(f"{x}\n" for x in lines))

  def run(self, *args, script="pod.sh", settings=None, **env):
    """Runs a script; (exit status, standard output, standard error)."""
    env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}",
           "HOME": str(self.folder), "STUB": str(self.folder),
           "LOGS": str(self.folder / "logs"), "POLL_S": "0"} | (
               SETTINGS if settings is None else settings) | env
    done = subprocess.run([TPU / script, *args], env=env, text=True,
                          capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr

  def calls(self):
    """The commands that ran, each as the words that tell it."""
    lines = (self.folder / "calls").read_text().splitlines()
    return [brief(line) for line in lines]


def brief(line):
  """`gcloud compute tpus tpu-vm ssh ... worker.sh start` -> `start`."""
  if "worker.sh" in line:
    return line.rstrip("'").split()[-1]
  words = [w for w in line.split() if re.fullmatch(r"[a-z-]+", w)
           and not w.startswith("-")]
  words = [w for w in words if w not in ("gcloud", "compute", "tpus", "moe")]
  return " ".join(words[:3])


UP = ["storage buckets describe", "queued-resources describe",
      "queued-resources create", "queued-resources describe",
      "tpu-vm describe", "status", "stop", "git archive", "storage cp",
      "install", "preflight", "start"]
LOOK = ["queued-resources describe", "status"]
