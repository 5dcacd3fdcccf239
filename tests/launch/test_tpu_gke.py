"""The JobSet that gke.sh renders, and the commands around it."""

import os
import re
import subprocess

import pytest
import yaml

from tests.launch.tpu_stub import SETTINGS, Stub

GKE = SETTINGS | {
    "IMAGE": "reg/img:1", "TOPOLOGY": "4x4",
    "GKE_ACCELERATOR": "tpu-v5-lite-podslice",
}


@pytest.fixture
def stub(tmp_path):
  return Stub(tmp_path)


def render(stub, **env):
  status, out, err = stub.run("render", script="gke.sh", settings=GKE, **env)
  assert (status, err) == (0, "")
  return yaml.safe_load(out), out


def test_the_job_restarts_what_a_relaunch_mends(stub):
  job, text = render(stub)
  assert not re.search(r"(?m)^[^#]*@[A-Z_]+@", text)
  assert (job["apiVersion"], job["kind"]) == (
      "jobset.x-k8s.io/v1alpha2", "JobSet")
  assert job["metadata"]["name"] == "moe"
  assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]
  policy = job["spec"]["failurePolicy"]
  assert policy["maxRestarts"] == 100
  assert [(r["action"], r["onJobFailureReasons"]) for r in policy["rules"]] == [
      ("FailJobSet", ["PodFailurePolicy"])]
  [replicated] = job["spec"]["replicatedJobs"]
  spec = replicated["template"]["spec"]
  assert (replicated["replicas"], spec["parallelism"], spec["completions"],
          spec["backoffLimit"]) == (1, 4, 4, 0)
  [rule] = spec["podFailurePolicy"]["rules"]
  [container] = spec["template"]["spec"]["containers"]
  assert rule == {"action": "FailJob", "onExitCodes": {
      "containerName": container["name"], "operator": "In",
      "values": [2, 3, 4, 5]}}
  pod = spec["template"]["spec"]
  assert pod["restartPolicy"] == "Never"
  assert pod["nodeSelector"] == {
      "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
      "cloud.google.com/gke-tpu-topology": "4x4",
      "cloud.google.com/gke-spot": "true"}
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  env = {e["name"]: e["value"] for e in container["env"]}
  assert env["RUN"] == "runs/a" and env["TRAIN_ARGS"] == ""
  [volume] = pod["volumes"]
  [mount] = container["volumeMounts"]
  assert volume["csi"]["volumeAttributes"]["bucketName"] == "buck"
  assert mount["mountPath"] == "/drivemoe/bucket"  # workdir and cache


def test_the_jobs_choices_reach_the_yaml(stub):
  job, _ = render(stub, SPOT="no", SLICES="2", TOPOLOGY="2x2x4",
                  KUEUE_QUEUE="multislice-queue", DATA="prepared",
                  TRAIN_ARGS="--config.mesh.data=2", SERVICE_ACCOUNT="me")
  assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == (
      "multislice-queue")
  [replicated] = job["spec"]["replicatedJobs"]
  assert replicated["replicas"] == 2
  assert replicated["template"]["spec"]["parallelism"] == 4
  pod = replicated["template"]["spec"]["template"]["spec"]
  assert "cloud.google.com/gke-spot" not in pod["nodeSelector"]
  assert [t["key"] for t in pod["tolerations"]] == ["google.com/tpu"]
  assert pod["serviceAccountName"] == "me"
  assert [v["name"] for v in pod["volumes"]] == ["bucket", "prepared"]
  assert {"name": "TRAIN_ARGS", "value": "--config.data.root=prepared "
          "--config.mesh.data=2"} in pod["containers"][0]["env"]


def test_the_containers_script_runs_preflight_then_trains(stub):
  job, _ = render(stub, TRAIN_ARGS="--config.seed=1")
  pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
  [container] = pod["spec"]["containers"]
  python = stub.folder / "bin" / "python"
  python.write_text('#!/bin/sh\necho "$*"\n[ "$2" != "$FAILS" ] || exit 4\n')
  python.chmod(0o755)
  env = {e["name"]: e["value"] for e in container["env"]} | {
      "PATH": f"{stub.folder}/bin:{os.environ['PATH']}"}
  both = ("--config configs/stage1.py --workdir bucket/runs/a --distributed "
          "auto --config.compile_cache=bucket/cache/xla --config.seed=1")
  done = subprocess.run(container["command"], env=env | {"FAILS": ""},
                        text=True, capture_output=True)
  assert done.stdout.splitlines() == [
      f"-m launch.preflight {both}", f"-m launch.train {both}"]
  done = subprocess.run(container["command"], text=True, capture_output=True,
                        env=env | {"FAILS": "launch.preflight"})
  assert done.returncode == 4 and "launch.train" not in done.stdout
  more = "--accept-change data --config.seed=1"
  done = subprocess.run(
      container["command"], text=True, capture_output=True,
      env=env | {"FAILS": "", "TRAIN_ARGS": more})
  assert done.stdout.splitlines() == [
      f"-m launch.preflight {both}",
      f"-m launch.train {both.replace('--config.seed=1', more)}"]


def test_a_value_may_hold_an_at_sign(stub):
  _, text = render(stub, IMAGE="reg/img@sha256:0a", SERVICE_ACCOUNT="s@p")
  assert "image: reg/img@sha256:0a\n" in text
  assert "serviceAccountName: s@p\n" in text


def test_gke_verbs_and_their_dry_runs(stub):
  gke = {"script": "gke.sh", "settings": GKE}
  status, out, _ = stub.run("--dry-run", "apply", **gke)
  assert status == 0 and not stub.calls()
  assert out.startswith("+ kubectl apply -f -\n")
  assert yaml.safe_load(out.split("\n", 1)[1])["kind"] == "JobSet"
  for verb in ("apply", "status", "logs", "delete"):
    assert stub.run(verb, **gke)[0] == 0
  calls = (stub.folder / "calls").read_text().splitlines()
  assert [c.split()[0] for c in calls] == [
      "apply", "get", "get", "logs", "delete"]
  assert calls[-1] == "delete jobset moe --ignore-not-found"


@pytest.mark.parametrize("env, says", [
    ({"IMAGE": ""}, "not set: IMAGE"),
    ({"TOPOLOGY": "16"}, "TOPOLOGY is '16'"),
    ({"TOPOLOGY": "3x3"}, "9 chips, no multiple of CHIPS_PER_HOST=4"),
    ({"TRAIN_ARGS": 'a" b'}, "TRAIN_ARGS is 'a\" b'"),
    ({"BUCKET": 'a"b'}, "BUCKET is 'a\"b'"),
    ({"CONFIG": "a@CONFIG@"}, "would fill in @CONFIG@ again"),
    ({"RUN": "a/@RUN@"}, "RUN is 'a/@RUN@'"),
    ({"DATA": "@SLICES@"}, "DATA is '@SLICES@'"),
])
def test_gke_settings_are_checked(stub, env, says):
  status, _, err = stub.run("render", script="gke.sh", settings=GKE | env)
  assert status == 2 and err.startswith("E-CONFIG: ") and says in err
