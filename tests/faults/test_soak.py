"""The soak finds what it is there to find: held against victims that err."""

import json
import os
import random
import time
import types

import pytest

from launch import attack, soak
from tests.faults import kit

# Victims that write sixty lines, slowly, and a soak of nothing but them. A
# process of its own forks them, since this one has threads.
DRIVER = """
import json, os, random, sys, time
from launch import attack, forks, victims

class Writer(victims.Victim):
  kind, moments = "train", {"start": 1, "writing": 3}
  def __init__(self, folder, fault):
    super().__init__(folder, None)
    self.fault, self.path = fault, os.path.join(folder, "out")
    os.makedirs(folder, exist_ok=True)
  def start(self, fresh):
    return forks.fork(self.work, self.folder + ".log")
  def work(self):
    print("writing", flush=True)
    began = time.monotonic()
    part = self.path if self.fault == "corrupt" else self.path + ".part"
    if self.fault == "lost" and os.path.exists(self.path):
      os.remove(self.path)
    with open(part, "w") as file:
      for n in range(60):
        file.write(f"{n} {time.time_ns() if self.fault == 'different' else 0}")
        file.flush()
        time.sleep(0.002)
    os.replace(part, self.path)
    # Half of the kills come to a whole file, however loaded the machine is.
    time.sleep(time.monotonic() - began)
    return 3 * (self.fault == "failed")
  def phase(self, child):
    return "writing" if "writing" in child.said() else "start"
  def good(self):
    return int(os.path.exists(self.path))
  def finished(self):
    return self.end() if self.good() else None
  def end(self):
    with open(self.path) as file:
      return {"out": file.read()}

class Soak(attack.Soak):
  def _victim(self, name, folder, cold=False, **more):
    twin = os.path.basename(os.path.dirname(folder)) == "twins"
    return Writer(folder, "" if twin and fault != "different" else fault)
  def _next_name(self):
    return "train"

workdir, fault = sys.argv[1:]
attack.KILLS_EACH = 6, 6
it = Soak(workdir, random.Random(0), 12, time.monotonic() + 1000)
attack._drain(it._make_twin("train"))
it._attack_all()
json.dump(it._found.as_json() | {"text": it._found.text()}, sys.stdout)
"""


def soaked(tmp_path, fault):
  os.makedirs(tmp_path / "twins")
  child = kit.python(DRIVER, tmp_path, fault)
  out, _ = child.communicate(timeout=kit.PATIENCE_S)
  assert child.returncode == 0
  return json.loads(out[out.index("{"):])


BROKEN = ("lost", "corrupt", "different", "failed")


def test_a_victim_that_keeps_its_promises_is_found_to_do_so(tmp_path):
  found = soaked(tmp_path, "")
  assert not any(found[name] for name in BROKEN)
  assert found["kills"] == sum(found["by_phase"]["train"].values()) == 12
  assert found["ends"] == found["identical"] >= 2
  assert "0 corrupt outputs taken for good" in found["text"]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_promise_is_found(tmp_path, fault):
  found = soaked(tmp_path, fault)
  assert found[fault], found["text"]
  assert fault in found["text"]


def test_its_flags_are_checked(tmp_path, capsys):
  assert soak.main(["--minutes", "0"]) == 2
  (tmp_path / "theirs").write_text("x")
  assert soak.main(["--minutes", "1", "--workdir", str(tmp_path)]) == 2
  assert "not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_a_short_soak_of_the_real_commands(tmp_path):
  """A process of its own: it forks."""
  child = kit.command("launch.soak", "--minutes", 20, "--kills", 24,
                      "--workdir", tmp_path / "w", "--json", tmp_path / "j")
  out, _ = child.communicate()
  assert child.returncode == 0, out
  found = json.loads((tmp_path / "j").read_text())
  assert found["ok"] and found["kills"] == 24
  assert set(found["by_phase"]) == {"train", "prepare", "export"}


class _Run:
  """A child that goes through phases, one look each."""

  status, log = 0, "log"

  def __init__(self, *phases):
    self.phases, self.began = list(phases), time.monotonic()

  def running(self):
    return bool(self.phases)


def test_a_start_too_short_to_be_seen_stepping_leaves_the_length_of_steps(
    tmp_path):
  it = attack.Soak(str(tmp_path), random.Random(0), None, 0.0)
  runs = [_Run("start", "steps", "save"), _Run("start", "save")]
  victim = types.SimpleNamespace(
      kind="train", moments={"start": 0, "steps": 0, "save": 1},
      folder=str(tmp_path), start=lambda fresh: runs.pop(0),
      phase=lambda child: child.phases.pop(0) if child.phases else "save")
  for _ in range(2):
    attack._drain(it._to_end(victim))
  attack._drain(it._until_moment(victim, _Run("start", "steps", "save")))
  assert not it._found.failed and not runs
