"""The scripts for TPU slices: what they would run, and what they refuse.

No TPU and no Google Cloud here: the scripts run under stubs, see tpu_stub.py.
"""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.launch.tpu_stub import LOOK, ROOT, SETTINGS, TPU, UP, Stub, brief


@pytest.fixture
def stub(tmp_path):
  return Stub(tmp_path)


def test_the_scripts_parse_and_shellcheck_finds_nothing():
  scripts = sorted(TPU.glob("*.sh"))
  assert len(scripts) == 6
  for script in scripts:
    subprocess.run(["bash", "-n", script], check=True)
  checker = shutil.which("shellcheck") or shutil.which(
      "shellcheck", path=ROOT / ".venv" / "bin")
  if not checker:
    pytest.skip("shellcheck is not installed")
  found = subprocess.run([checker, "-x", *scripts], cwd=ROOT, text=True,
                         capture_output=True)
  assert not found.stdout + found.stderr


def dry(stub, verb, **env):
  """What a dry run prints; it must run nothing."""
  status, out, err = stub.run("--dry-run", verb, **env)
  assert (status, err) == (0, "")
  assert not stub.calls()
  lines = out.splitlines()
  assert all(line.startswith("+ ") for line in lines)
  return [line[2:] for line in lines]


def test_dry_runs_print_each_command_in_order(stub):
  create = dry(stub, "create")
  assert [brief(line) for line in create] == UP[:3]
  assert create[-1] == (
      "gcloud compute tpus queued-resources create moe --project=proj "
      "--zone=us-west4-a --quiet --node-id=moe "
      "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite "
      "--valid-until-duration=21600s --spot")
  train = dry(stub, "train")
  assert [brief(line) for line in train] == ["tpu-vm describe", "start", *LOOK]
  assert train[1].startswith(
      "gcloud compute tpus tpu-vm ssh moe --project=proj --zone=us-west4-a "
      "--quiet --strict-host-key-checking=no --worker=all '--command=")
  assert "BUCKET=buck RUN=runs/a CONFIG=configs/stage1.py bash" in train[1]
  assert [brief(line) for line in dry(stub, "resume")] == [
      *UP[:7], "git archive", *UP[8:], *LOOK, "tpu-vm scp"]
  delete = dry(stub, "delete")
  assert [brief(line) for line in delete] == [
      "queued-resources delete", "queued-resources describe"]
  assert "--force" in delete[0]


def test_a_dry_run_prints_what_a_run_runs(stub):
  planned = [brief(line) for line in dry(stub, "resume")]
  assert stub.run("resume")[0] == 0
  assert stub.calls() == planned


def test_settings_reach_the_commands(stub):
  line = dry(stub, "create", SPOT="no", SLICES="2", WAIT_S="60",
             ACCELERATOR_TYPE="v6e-16", SERVICE_ACCOUNT="s@p")[-1]
  assert "--node-count=2 --node-prefix=moe --accelerator-type=v6e-16" in line
  assert "--runtime-version=v2-alpha-tpuv6e" in line
  assert "--valid-until-duration=60s --service-account=s@p" in line
  assert "--spot" not in line and "--node-id" not in line
  for kind, image in (("v5p-128", "v2-alpha-tpuv5 "),
                      ("v4-32", "tpu-ubuntu2204-base ")):
    assert image in dry(stub, "create", ACCELERATOR_TYPE=kind)[-1]
  assert "=own " in dry(stub, "create", RUNTIME_VERSION="own")[-1]
  line = dry(stub, "train", SLICES="2", SSH_ARGS="--internal-ip",
             DATA="prepared", TRAIN_ARGS="--config.seed=1 --config.lr='2'")[1]
  assert "queued-resources ssh moe" in line and "--node=all" in line
  assert "--internal-ip" in line and "DATA=prepared" in line
  inner = line.split("--command=")[1][:-1].replace("'\\''", "'")
  assert r"TRAIN_ARGS='--config.seed=1 --config.lr='\''2'\''' bash" in inner


@pytest.mark.parametrize("verb, missing", [
    ("create", "PROJECT_ID ZONE TPU_NAME ACCELERATOR_TYPE BUCKET"),
    ("resume", "PROJECT_ID ZONE TPU_NAME ACCELERATOR_TYPE BUCKET CONFIG RUN"),
    ("delete", "PROJECT_ID ZONE TPU_NAME"),
])
def test_missing_settings_are_named_together(stub, verb, missing):
  status, out, err = stub.run(verb, settings={})
  assert (status, out) == (2, "")
  assert err.startswith(f"E-CONFIG: not set: {missing};")
  assert err.count("\n") == 1 and not stub.calls()


@pytest.mark.parametrize("env, says", [
    ({"ACCELERATOR_TYPE": "v9-8"}, "'v9-8' is unknown"),
    ({"TPU_NAME": "My_Slice"}, "TPU_NAME is 'My_Slice'"),
    ({"RUN": "gs://buck/runs/a"}, "RUN is 'gs://buck/runs/a'"),
    ({"RUN": "../a"}, "RUN is '../a'"),
    ({"DATA": "/prepared"}, "DATA is '/prepared'"),
    ({"BUCKET": "buck/runs"}, "BUCKET is 'buck/runs'"),
    ({"SPOT": "true"}, "SPOT is 'true'"),
    ({"SLICES": "two"}, "SLICES is 'two'"),
])
def test_wrong_settings_are_named_with_their_value(stub, env, says):
  status, _, err = stub.run("resume", **env)
  assert status == 2 and err.startswith("E-CONFIG: ") and says in err
  assert not stub.calls()


def test_flags_and_files(stub):
  file = stub.folder / "slice.env"
  file.write_text("".join(f"{k}='{v}'\n" for k, v in SETTINGS.items()))
  assert stub.run("--env", file, "--dry-run", "create", settings={})[0] == 0
  for args in (["--env", "absent"], ["--wet-run"], ["create", "delete"],
               ["recreate"]):
    status, _, err = stub.run(*args)
    assert status == 2 and err.startswith("E-CONFIG: "), args
  status, out, _ = stub.run("--help")
  assert status == 0 and "  resume " in out and "set -e" not in out
  assert stub.run()[0] == 2


def test_ctrl_c_ends_a_script_and_the_command_it_waits_for(stub):
  gcloud = stub.folder / "bin" / "gcloud"
  gcloud.write_text(
      '#!/bin/sh\necho $$ >"$STUB/part"\nmv "$STUB/part" "$STUB/pid"\n'
      'exec sleep 60\n')
  env = SETTINGS | {"PATH": f"{stub.folder}/bin:{os.environ['PATH']}",
                    "STUB": str(stub.folder), "LOGS": str(stub.folder)}
  job = subprocess.Popen(  # a session of its own stands for the terminal
      ["env", "--default-signal=INT", TPU / "pod.sh", "resume"], env=env,
      start_new_session=True, stdout=subprocess.DEVNULL)
  asked, end = stub.folder / "pid", time.monotonic() + 20
  while not asked.exists():
    assert time.monotonic() < end
    time.sleep(0.05)
  try:
    os.killpg(job.pid, signal.SIGINT)
    assert job.wait(timeout=20) in (-signal.SIGINT, 128 + signal.SIGINT)
    with pytest.raises(ProcessLookupError):
      os.kill(int(asked.read_text()), 0)
  finally:
    for pid in (job.pid, int(asked.read_text())):
      try:
        os.kill(pid, signal.SIGKILL)
      except ProcessLookupError:
        pass
    job.wait()


def test_an_ssh_that_outlives_its_limit_is_not_waited_for(stub):
  gcloud = stub.folder / "bin" / "gcloud"
  gcloud.write_text('#!/bin/bash\necho STATUS w-0 ready\n'
                    'sleep 60 &\necho $! >"$STUB/pid"\nwait\n')
  script = """set -euo pipefail
source "$0/settings.sh"
source "$0/workers.sh"
WHERE=() SLICES=1 WORKERS=2
ask_workers 1 stop
echo "$OUTCOME"
kill -0 "$(cat "$STUB/pid")" && kill "$(cat "$STUB/pid")"
"""
  env = SETTINGS | {"PATH": f"{stub.folder}/bin:{os.environ['PATH']}",
                    "STUB": str(stub.folder), "LOGS": str(stub.folder)}
  with open(stub.folder / "out", "w+", encoding="utf-8") as out:
    subprocess.run(["bash", "-c", script, TPU], env=env, stdout=out,
                   check=True, timeout=40)
    out.seek(0)
    words = out.read().split("\n")
  assert words[1:3] == ["STATUS w-0 ready", "silent"]


def test_the_example_settings_are_enough(stub):
  status, out, err = stub.run("--env", TPU / "example.env", "--dry-run",
                              "resume", settings={})
  assert (status, err) == (0, "") and "drivemoe-a" in out


def test_nothing_ever_deletes_data():
  for script in TPU.glob("*"):
    text = script.read_text()
    assert not re.search(r"storage (rm|buckets delete)|gsutil|rsync|rm -r",
                         text), script
