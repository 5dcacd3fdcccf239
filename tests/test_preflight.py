"""The checks before a run, on one host; several are in test_hosts_training."""

import json
import types

import jax
import pytest

from data_pipeline import errors
from drivemoe_jax import preflight
from launch import cli
from launch import preflight as command
from tests import small_run

SMALL = [f"--config.{key}={value}" for key, value in small_run.SMALL.items()]


def run(workdir, *flags):
  return command.main(["--config", small_run.CONFIG, "--workdir", str(workdir),
                       *SMALL, *flags])


def test_what_was_found_is_told_and_nothing_is_left(tmp_path, capsys):
  path = tmp_path / "found.json"
  assert run(tmp_path / "new", "--json", str(path)) == 0
  found = json.loads(path.read_text())
  assert found["devices"] == len(jax.devices())
  assert found["mesh"] == {"data": 1, "fsdp": 1, "expert": 1}
  assert (found["global_batch"], found["microbatches"]) == (8, 1)
  assert found["memory"]["peak"] > found["memory"]["arguments"] > 0
  told = capsys.readouterr().out
  assert "process 0: " in told and "8 in 1 microbatches" in told
  assert not list((tmp_path / "new").iterdir())


def test_json_can_be_all_that_is_printed(tmp_path, capsys):
  assert run(tmp_path, "--json", "-") == 0
  assert json.loads(capsys.readouterr().out)["storage"]["workdir"] == str(
      tmp_path)


def test_sizes_that_do_not_divide_end_it(tmp_path, capsys):
  assert run(tmp_path, "--config.global_batch=9", "--config.mesh.fsdp=2") == 2
  assert "Nearest legal: 8 or 10" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_ends_it(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  assert run(tmp_path / "file" / "run") == 4
  assert capsys.readouterr().err.startswith("E-DISK: process 0 cannot write")


@pytest.fixture
def limited(tmp_path, monkeypatch):
  """Runs the checks on a device of so many bytes."""
  def run_limited(limit):
    device = types.SimpleNamespace(
        device_kind="small", memory_stats=lambda: {"bytes_limit": limit})
    monkeypatch.setattr(preflight.jax, "local_devices", lambda: [device])
    return preflight.run(cli.load_config(small_run.CONFIG, SMALL),
                         str(tmp_path))["memory"]
  return run_limited


def test_a_state_that_no_device_can_hold_ends_it(limited):
  held = limited(1 << 50)["arguments"]
  with pytest.raises(errors.HbmError, match="has 0.0; use more devices"):
    limited(held - 1)


def test_too_high_an_estimate_is_a_warning(limited, capsys):
  memory = limited(1 << 50)
  assert not capsys.readouterr().err
  assert limited(memory["arguments"])["peak"] == memory["peak"]
  err = capsys.readouterr().err
  assert err.startswith("W-HBM: ") and "run launch.plan" in err
  limited(memory["peak"])
  assert not capsys.readouterr().err
