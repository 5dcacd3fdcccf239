"""The benchmark of driving, in miniature: rows, and a soak that looks."""

import contextlib
import json

import numpy as np
import pytest

from launch import bench
from launch.bench import serve
from launch.carla import remote
from tests import fake_policy


class Local(fake_policy.FakePolicy):
  """A policy that is its own server."""

  def __init__(self, spoil=False):
    super().__init__()
    self.url, self.spoil = "ws://here", spoil

  def plan(self, observation):
    answer = super().plan([observation])[0]
    answer["server_timing"] = {"infer_ms": 0.0}
    if self.spoil and len(self.batches) % 9 == 0:
      answer["actions"] = answer["actions"] + 1
    return answer

  def close(self):
    pass


class Process:

  def memory_info(self):
    return type("Memory", (), {"rss": 10**6})


@pytest.fixture
def local(monkeypatch):
  """Has the bench talk to a Local without a process; returns it."""
  policy = Local()
  monkeypatch.setattr(serve, "served", lambda args, say: (
      contextlib.nullcontext((Process(), policy))))
  monkeypatch.setattr(remote, "RemotePolicy", lambda url, timeout_s: policy)
  monkeypatch.setattr(serve, "CAMERA_SIZE", (64, 36))
  monkeypatch.setattr(serve, "LOOK_EVERY_S", 0.05)
  return policy


def test_a_row_for_each_part(local, tmp_path, capsys):
  out = tmp_path / "out.json"
  bench.main(["serve", "--calls", "5", "--json", str(out)])
  told = json.loads(out.read_text())
  assert [row["name"] for row in told["rows"]] == [
      "policy step", "plan through the server", "server's share",
      "six cameras prepared"]
  step, through, share, _ = told["rows"]
  assert step["median_ms"] == 0 < share["median_ms"] == through["median_ms"]
  assert "six cameras prepared" in capsys.readouterr().out
  assert len(local.batches) == 5 + serve.WARMUP


@pytest.mark.parametrize("spoil", [False, True])
def test_the_soak_holds_each_answer_against_the_first(local, tmp_path, spoil):
  local.spoil, out = spoil, tmp_path / "out.json"
  code = bench.main(["serve", "--soak", "0.01", "--clients", "3", "--json",
                     str(out)])
  told = json.loads(out.read_text())
  assert code == (not told["ok"])
  assert told["ok"] is not spoil and bool(told["faults"]) is spoil
  assert told["plans"] > 9 and told["soak"]["bytes"]


def test_a_soak_shorter_than_its_first_look_still_looks(local, tmp_path):
  """As on a machine so busy that the time is over before the first look."""
  out = tmp_path / "out.json"
  assert bench.main(["serve", "--soak", "1e-9", "--clients", "2", "--json",
                     str(out)]) == 0
  told = json.loads(out.read_text())
  assert told["plans"] == 2 and len(told["soak"]["bytes"]) == 1


def test_what_cannot_be_timed_is_refused(capsys):
  assert bench.main(["serve", "--calls", "0"]) == 2
  assert "--calls 0: must be positive" in capsys.readouterr().err


def test_the_random_policy_plans():
  policy = serve.random_policy("configs/tiny.py",
                               ["--config.model.image_size=12"])
  observation = serve.observe(policy.metadata, 3)
  assert policy.check(observation) and policy.metadata["image_size"] == 12
  assert np.asarray(policy.example()["images"]).shape == (7, 12, 12, 3)
