"""Many drives: resumed, spread over processes, rerun after a crash."""

import hashlib
import json
import os
import signal

import numpy as np
import pytest

from data_pipeline import errors
from data_pipeline.miniworld import drivers, episode, names, pool
from drivemoe_jax import serve
from drivemoe_jax.evaluators.bench2drive import records, report
from drivemoe_jax.evaluators.closed_loop import runner, summary
from launch import drive_worker
from tests import fake_policy

SIZE = (32, 18)
KINDS = ("HardBreakRoute", "ConstructionObstacle")
WANTED = runner.episodes(2, KINDS)
BLIND = {"driver": "blind", "size": list(SIZE)}
WORKER = "launch.drive_worker"


def digest(folder):
  """{relative path: SHA-256} of every file."""
  found = {}
  for root, _, files in os.walk(folder):
    for name in files:
      path = os.path.join(root, name)
      with open(path, "rb") as file:
        found[os.path.relpath(path, folder)] = hashlib.sha256(
            file.read()).hexdigest()
  return found


def blind_here(folder):
  return runner.here(folder, drivers.Blind, SIZE)


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("blind") / "drives")
  return folder, runner.run(folder, BLIND, WANTED, blind_here(folder))


def test_episodes_hold_every_type_before_the_next_seed():
  listed = runner.episodes(2 * len(names.TYPES))
  assert {kind for kind, _ in listed[:len(names.TYPES)]} == set(names.TYPES)
  assert {seed for _, seed in listed} == {20000, 20001}
  assert len(runner.episodes()) == 10 * len(names.TYPES)
  assert runner.episodes(2, KINDS + KINDS) == WANTED  # none is driven twice


@pytest.mark.parametrize("change, words", [
    ({"kinds": ["TJunctio"]}, "TJunctio"), ({"count": 0}, "0 episodes"),
    ({"first_seed": 9000}, "9000"), ({"first_seed": 999999, "count": 20},
                                     "1000000")])
def test_episodes_that_cannot_be_driven_are_refused(change, words):
  with pytest.raises(errors.ConfigError, match=words):
    runner.episodes(**change)


def test_another_process_changes_nothing(blind, tmp_path):
  folder = str(tmp_path / "drives")
  runner.run(folder, BLIND, WANTED,
             runner.in_children(folder, BLIND, 1, WORKER))
  assert digest(folder) == digest(blind[0])


def test_a_killed_run_goes_on_where_it_was(blind, tmp_path):
  folder = str(tmp_path / "drives")

  def killed(left):
    for one in blind_here(folder)(left):
      yield one
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    runner.run(folder, BLIND, WANTED, killed)
  assert not os.path.exists(os.path.join(folder, "results.json"))
  seen = []
  runner.run(folder, BLIND, WANTED, lambda left: (
      seen.extend(left) or blind_here(folder)(left)))
  assert seen == WANTED[1:]
  assert digest(folder) == digest(blind[0])


def test_finished_drives_are_not_driven_again(blind):
  folder, before = blind
  driven = []
  after = runner.run(folder, BLIND, WANTED, lambda left: driven.extend(left)
                     or iter(()))
  assert not driven and after == before


def test_a_kill_before_the_first_file_leaves_a_folder_to_go_on_in(tmp_path):
  (tmp_path / "plan.json.part").write_text("{")
  assert runner.run(str(tmp_path), BLIND, [], lambda left: iter(())) == []
  assert (tmp_path / "plan.json").exists()


def test_another_driver_is_refused(blind):
  with pytest.raises(errors.DataError, match="'blind' there, 'still' here"):
    runner.run(blind[0], {**BLIND, "driver": "still"}, WANTED, None)


def test_a_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / "mine.txt").write_text("")
  with pytest.raises(errors.DataError, match="holds no drives"):
    runner.run(str(tmp_path), BLIND, WANTED, None)


DYING = """
import os, signal, sys
for line in sys.stdin:
  if not os.path.exists("{marker}"):
    open("{marker}", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
  print("{prefix}" + "{{}}", flush=True)
"""


@pytest.mark.parametrize("tries, survives", [(2, True), (1, False)])
def test_a_crashed_process_has_its_job_given_to_another(
    tmp_path, monkeypatch, tries, survives):
  (tmp_path / "dying.py").write_text(DYING.format(
      marker=tmp_path / "died", prefix=pool.PREFIX))
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  jobs = [{"number": i} for i in range(3)]
  if survives:
    done = [job for job, _ in pool.run(jobs, 1, "dying", tries)]
    assert done == jobs
  else:
    with pytest.raises(pool.Died, match=str(-signal.SIGKILL)):
      list(pool.run(jobs, 1, "dying", tries))
  assert (tmp_path / "died").exists()


class Cruises(fake_policy.FakePolicy):
  """Plans straight ahead; how fast depends on what it sees."""

  def plan(self, observations):
    return [{"actions": np.stack([
        np.arange(10) * (0.3 + 0.1 * o["images"].mean() / 255),
        np.zeros(10)], -1).astype(np.float32)} for o in observations]


def test_a_served_policy_drives_as_the_same_in_this_process(tmp_path):
  policy, wanted = Cruises(), WANTED[:1]
  make = lambda world: drivers.Policy(
      world, lambda o: policy.plan([o])[0], policy.side, 90)
  ours, served = str(tmp_path / "a"), str(tmp_path / "b")
  runner.run(ours, {}, wanted, runner.here(ours, make, SIZE))
  with serve.in_background(serve.Server(
      policy, limits=serve.Limits(rate_hz=1e6))) as port:
    job = {"driver": "policy", "server": f"ws://127.0.0.1:{port}",
           "image_size": policy.side, "quality": 90, "size": list(SIZE)}
    runner.run(served, {}, wanted,
               runner.in_children(served, job, 1, WORKER))
  assert digest(ours) == digest(served)
  files = os.listdir(episode.path(ours, *wanted[0]))
  assert sorted(files) == ["drive.json", "metric_info.json", "record.json"]


def test_no_server_is_no_drive(tmp_path, monkeypatch):
  monkeypatch.setattr(drive_worker, "WAIT_S", 0.0)
  said = json.loads(drive_worker.answer({
      "folder": str(tmp_path), "kind": "TJunction", "seed": 20000,
      "size": [32, 18], "driver": "policy", "server": "ws://127.0.0.1:9"}))
  assert said["error"][0] == "PeerError"
  assert not os.listdir(tmp_path)


def test_the_scorer_reads_the_results_and_agrees(blind):
  folder, rows = blind
  scored = report.report(records.load(os.path.join(folder, "results.json")))
  ours = summary.summarise(rows, WANTED)
  assert scored["route_set"] == "miniworld" and scored["complete"]
  assert scored["driving_score"] == pytest.approx(
      ours["driving_score"]["value"])
  assert scored["success_rate"] == pytest.approx(
      ours["success_rate"]["value"])
  assert not scored["penalties"]["mismatches"] and not scored["warnings"]
  assert scored["comfort_routes"] == len(WANTED)
