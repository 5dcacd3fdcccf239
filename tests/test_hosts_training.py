"""Several processes are one run: same losses, same checkpoint, and a loss of
one of them is told and survived.

Real processes on this machine with pretended CPU devices; the model is as
small as it gets.
"""

import json
import shutil
import time

import jax
import numpy as np
import pytest

from drivemoe_jax import build, checkpoint
from tests import pods, small_run

MESH = {"mesh.data": 2, "mesh.fsdp": 2}
DEALT = {"data__keyframes": 3.0}  # by a fit that process 0 makes
RATE = 2e-3  # above every update's learning rate


@pytest.fixture(scope="module")
def half(routes, tmp_path_factory):
  """The first two updates, by one process on one device.

  The others go on from there: to make a state costs them more than to train.
  """
  workdir = tmp_path_factory.mktemp("half")
  status, lines = small_run.run(
      small_run.load(routes, total_updates=2, save_every=2, **DEALT), workdir)
  assert status == 0 and lines[-1] == "done: step 2"
  return workdir


@pytest.fixture(scope="module")
def alone(routes, half, tmp_path_factory):
  """Two more updates of the same process."""
  workdir = tmp_path_factory.mktemp("runs") / "alone"
  shutil.copytree(half, workdir)
  status, lines = small_run.run(
      small_run.load(routes, total_updates=4, save_every=2, **DEALT), workdir)
  assert status == 0 and lines[-1] == "done: step 4"
  return workdir


def flags(routes, workdir, **changes):
  changes = {key.replace("__", "."): x for key, x in changes.items()}
  return ["--config", small_run.CONFIG, "--workdir", workdir,
          *small_run.overrides(routes, MESH | changes)]


def losses(workdir):
  return {line["step"]: line["loss"] for line in pods.log_of(workdir)}


def assert_same_losses(workdir, wanted):
  ours, theirs = losses(workdir), losses(wanted)
  assert sorted(ours) == sorted(theirs)
  np.testing.assert_allclose([ours[s] for s in sorted(ours)],
                             [theirs[s] for s in sorted(theirs)], rtol=1e-4)


@pytest.fixture(scope="module")
def together(routes, half, tmp_path_factory):
  """The same updates of two hosts with two devices: (workdir, their ends)."""
  workdir = tmp_path_factory.mktemp("runs") / "together"
  shutil.copytree(half, workdir)
  with pods.pod("launch.train", 2, 2, *flags(
      routes, workdir, total_updates=4, save_every=2, **DEALT)) as hosts:
    return workdir, [host.wait(900) for host in hosts]


def test_two_hosts_end_well_and_only_the_first_speaks(together):
  (status, said, errors), (other, said_by_other, _) = together[1]
  assert (status, other) == (0, 0), errors
  assert said[0].startswith("resume: step 2") and "'fsdp': 2" in said[0]
  assert said[-1] == "done: step 4"
  assert not said_by_other
  logs = together[0] / "logs"
  assert sorted(x.name for x in logs.iterdir()) == [
      "process-0.log", "process-1.log"]


def test_two_hosts_have_the_losses_of_one(together, alone):
  assert_same_losses(together[0], alone)


def test_two_hosts_leave_the_checkpoint_of_one(together, alone):
  ours, theirs = (build.load_run(str(w)) for w in (together[0], alone))
  assert (ours.step, theirs.step) == (4, 4)
  assert ours.statistics == theirs.statistics
  # Adam turns the noise of a gradient that is zero into a step of a rate.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=RATE / 20), ours.params, theirs.params)
  meta = [checkpoint.Checkpoints(str(w), read_only=True).meta(4)
          for w in (together[0], alone)]
  for key in ("data", "statistics", "next_sample", "seed"):
    assert meta[0][key] == meta[1][key]


@pytest.mark.slow
def test_hosts_survive_the_loss_of_one(routes, tmp_path):
  """Four hosts, one is killed; two go on, as if nothing had happened."""
  steps = 40
  status, _ = small_run.run(small_run.load(
      routes, total_updates=steps, save_every=5), tmp_path / "alone")
  assert status == 0
  workdir = tmp_path / "pod"
  change = {"total_updates": steps, "save_every": 5, "mesh__data": -1}
  with pods.pod("launch.train", 4, 2,
                *flags(routes, workdir, **change)) as hosts:
    pods.wait_for_step(workdir, 8, hosts, 900)
    hosts[2].kill()
    start = time.monotonic()
    for process in (0, 1, 3):
      status, _, errors = hosts[process].wait(60)
      assert status == 6
      assert errors[-1].startswith("E-PEER: lost process 2 (of 4)"), errors
    assert time.monotonic() - start < 60
  with pods.pod("launch.train", 2, 2,
                *flags(routes, workdir, **change)) as hosts:
    (status, said, errors), (other, _, _) = [h.wait(900) for h in hosts]
  assert (status, other) == (0, 0), errors
  assert said[0].startswith("resume: step 5") or said[0].startswith(
      "resume: step 10"), said[0]
  assert_same_losses(workdir, tmp_path / "alone")


@pytest.mark.slow
def test_hosts_stop_together_when_one_gets_notice(routes, tmp_path):
  with pods.pod("launch.train", 2, 2, *flags(
      routes, tmp_path, total_updates=400, save_every=400)) as hosts:
    pods.wait_for_step(tmp_path, 2, hosts, 900)
    hosts[1].terminate()
    ends = [host.wait(300) for host in hosts]
  assert [status for status, _, _ in ends] == [75, 75]
  assert ends[0][1][-1].startswith("preempted: step")
  stopped = int(ends[0][1][-1].split()[2])
  assert build.load_run(str(tmp_path)).step == stopped < 400


PREFLIGHT = ("launch.preflight", 2, 1)


def lines_of(hosts, timeout_s=300):
  """[(status, last line of errors)] of hosts that fail."""
  return [(status, errors[-1] if errors else "") for status, _, errors in
          (host.wait(timeout_s) for host in hosts)]


@pytest.mark.slow
def test_preflight_of_hosts_that_fit(routes, tmp_path):
  path = tmp_path / "found.json"
  with pods.pod(*PREFLIGHT, *flags(routes, tmp_path / "run", mesh__data=1),
                "--json", path) as hosts:
    ends = [host.wait(300) for host in hosts]
  assert [status for status, _, _ in ends] == [0, 0], ends
  found = json.loads(path.read_text())
  assert found["devices"] == 2 and len(found["hosts"]) == 2
  assert found["mesh"] == {"data": 1, "fsdp": 2, "expert": 1}
  assert found["memory"]["peak"] > found["memory"]["arguments"] > 0
  assert sorted(x.name for x in (tmp_path / "run").iterdir()) == ["logs"]


@pytest.mark.slow
@pytest.mark.parametrize("each, status, told", [
    (lambda i: ["--config.seed=3"] * i, 2,
     "E-CONFIG: the hosts differ in the config: seed is 0 on process 0 and 3 "
     "on process 1"),
    (lambda i: ["--config.global_batch=9"], 2, "Nearest legal: 8 or 10"),
    (lambda i: ["--config.mesh.data=1", "--config.mesh.fsdp=1"], 2,
     "but the 2 hosts have 2 devices"),
])
def test_preflight_of_hosts_that_do_not_fit(routes, tmp_path, each, status,
                                            told):
  with pods.pod(*PREFLIGHT, *flags(routes, tmp_path, mesh__data=1),
                each=each) as hosts:
    for got, line in lines_of(hosts):
      assert got == status and told in line, line


@pytest.mark.slow
def test_preflight_of_hosts_that_share_no_storage(routes, tmp_path):
  with pods.pod(*PREFLIGHT, *flags(routes, tmp_path, mesh__data=1),
                each=lambda i: ["--workdir", tmp_path / str(i)]) as hosts:
    for status, line in lines_of(hosts):
      assert status == 4
      assert line.startswith(f"E-CKPT: {tmp_path}") and (
          "is not shared: process 0 wrote the probe, process 1 cannot see it"
          in line)
  assert not list(tmp_path.rglob("preflight_probe"))


@pytest.mark.slow
def test_preflight_names_the_hosts_that_are_missing(routes, tmp_path):
  with pods.pod(*PREFLIGHT, *flags(routes, tmp_path), "--join-timeout", 20,
                each=lambda i: ["--processes", 4]) as hosts:
    for status, line in lines_of(hosts):
      assert status == 6
      assert line.startswith("E-PEER: 2 of 4 hosts joined 127.0.0.1:")
      assert "missing process ids: 2, 3." in line
