"""A secret in a config is in nothing that a run writes, prints or sends."""

import io
import json
import types

import pytest

from drivemoe_jax import hosts, inventory, logs, train
from launch import pod
from tests import small_run

SECRET = "hunter2"


def with_secret(config):
  with config.unlocked():
    config.wandb_api_key = SECRET
  return config


def holds_secret(folder):
  return [path.name for path in folder.rglob("*")
          if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_run_writes_and_says_no_secret(routes, tmp_path, monkeypatch):
  sent = []
  real = logs.Log
  monkeypatch.setattr(logs, "Log", lambda *args, config, **kwargs: (
      sent.append(config), real(*args, config=config, **kwargs))[1])
  lines, config = [], with_secret(small_run.load(routes, total_updates=1))
  assert train.run(config, str(tmp_path), lines.append) == 0
  assert (tmp_path / "checkpoints" / "1").is_dir()
  assert not holds_secret(tmp_path)
  assert SECRET not in "\n".join(lines)
  saved = json.loads((tmp_path / "config.json").read_text())
  assert saved["wandb_api_key"] == sent[0]["wandb_api_key"] == "***"
  # It is the same run to its second start, which sees the secret itself.
  assert train.run(config, str(tmp_path), lines.append) == 0
  assert lines[-1] == "done: step 1" and not holds_secret(tmp_path)


def test_what_is_told_of_a_config_has_no_secret(routes):
  config = with_secret(small_run.load(routes))
  assert SECRET not in json.dumps(inventory.describe(config), default=str)
  assert SECRET not in json.dumps(hosts.facts(config), default=str)


@pytest.mark.parametrize("argument, hidden", [
    (f"--config.wandb_api_key={SECRET}", True),
    (f"--config.x={SECRET}", False)])
def test_the_log_of_a_host_has_the_command_without_secrets(
    argument, hidden, monkeypatch):
  log = io.StringIO()
  log.name = "log"
  args = types.SimpleNamespace(argv=["--workdir", "W", argument])
  parent = pod._Parent(args, "launch.train", log)
  parent._command[:3] = ["false"]  # in place of the training
  monkeypatch.setattr(parent, "_explain", lambda status: status)
  assert parent.run() == 1
  assert (SECRET not in log.getvalue()) == hidden
  assert argument.partition("=")[0] in log.getvalue()
