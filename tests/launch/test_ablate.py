"""`ablate` as a command: refusals in one line; one row from data to page."""

import argparse
import json
import os
import signal
import sys
import threading
import time

import psutil
import pytest

from data_pipeline import errors
from drivemoe_jax import build
from drivemoe_jax.evaluators.ablation import store, variants
from launch import ablate, cli
from launch.ablate import budget, children
from tests import small_run
from tests.evaluators.ablation import raw

MODEL = small_run.MODEL | {"image_size": 32, "patch_size": 8}
SMALL = [f"--config.model.{key}={value}" for key, value in MODEL.items()] + [
    "--config.data.record.scenarios=[HardBreakRoute]",
    "--config.data.record.train_seeds=2", "--config.data.record.val_seeds=2",
    "--config.data.record.width_px=64", "--config.data.record.height_px=36",
    "--config.data.record.max_frames=30", "--config.global_batch=4",
    "--config.per_device_batch=4"]
COUNTS = ["--episodes", 2, "--scenes", 1, "--samples", 3, "--limit", 8]


def call(*args):
  return ablate.main([str(arg) for arg in args])


@pytest.mark.parametrize("args, status, words", [
    (["--rows", "pi1-*"], 2, "'pi1-*' matches no row"),
    (["--minutes", 0], 2, "--minutes 0"), (["--updates", -3], 2, "--updates"),
    (["--episodes", 0], 2, "--episodes 0"), (["--scenes", 0], 2, "--scenes 0"),
    (["--config", "configs/nothing.py"], 2, "no config file"),
    (["--page", "page.html"], 2, ".md"),
    (["--page", "page.md"], 3, "no finished row")])
def test_what_cannot_be_run_is_refused(tmp_path, capsys, args, status, words):
  assert call("--workdir", tmp_path, *args) == status
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1 and error.startswith("E-")
  assert not os.listdir(tmp_path)


def made(tmp_path, monkeypatch):
  """Runs of the command whose children write down what they would do."""
  done = []
  monkeypatch.setattr(ablate.rows.datasets, "record", lambda *_: None)
  monkeypatch.setattr(ablate.rows, "commit", lambda: "c0ffee")
  for part in ("_train", "_evaluate", "_drive", "_probe"):
    monkeypatch.setattr(ablate.rows.Maker, part, (
        lambda self, row, folder, part=part:
        done.append((row.name, part)) or raw.part(row, part)))
  monkeypatch.setattr(
      ablate.rows.build, "load_config",
      lambda _: type("C", (), {"total_updates": 9, "global_batch": 4}))
  return done, lambda *args: call("--workdir", tmp_path, "--updates", 9, *args)


def test_finished_rows_are_kept_and_others_are_refused(
    tmp_path, monkeypatch, capsys):
  done, run = made(tmp_path, monkeypatch)
  assert run("--rows", "pi0-0,trajectory-0") == 0
  assert [name for name, part in done if part == "_train"] == [
      "pi0-0", "trajectory-0"]
  before = (tmp_path / "rows" / "pi0-0.json").read_bytes()
  done.clear()
  assert run("--rows", "pi0-*") == 0
  assert {name for name, _ in done} == {"pi0-1", "pi0-2"}
  assert (tmp_path / "rows" / "pi0-0.json").read_bytes() == before
  capsys.readouterr()
  assert run("--rows", "pi0-0", "--episodes", 28) == 3
  assert "episodes 140 there, 28 asked" in capsys.readouterr().err
  assert run("--rows", "pi0-0", "--config.optim.vlm_lr=1e-5") == 3
  assert "config" in capsys.readouterr().err


def test_a_killed_row_leaves_no_raw_file(tmp_path, monkeypatch):
  done, run = made(tmp_path, monkeypatch)

  def killed(self, row, folder):
    raise small_run.Killed
  monkeypatch.setattr(ablate.rows.Maker, "_probe", killed)
  with pytest.raises(small_run.Killed):
    run("--rows", "token-1")
  assert store.read(str(tmp_path), "token-1") is None
  done.clear()
  monkeypatch.setattr(ablate.rows.Maker, "_probe", (
      lambda self, row, folder: raw.part(row, "_probe")))
  assert run("--rows", "token-1") == 0
  assert not done  # what was trained, evaluated and driven is only read
  assert store.read(str(tmp_path), "token-1")["training_seconds"] > 0


def test_rows_of_another_measured_budget_are_refused(tmp_path):
  for name, updates in (("pi0-0", 450), ("token-0", 900)):
    store.write(str(tmp_path), name, raw.row(name) | {"updates": updates})
  with pytest.raises(errors.DataError, match="updates 900 there, 450 in pi0-0"):
    store.read_all(str(tmp_path))


def test_the_page_and_its_files(tmp_path, monkeypatch, capsys):
  _, run = made(tmp_path, monkeypatch)
  assert run("--rows", "pi0-*,trajectory-*") == 0
  page = tmp_path / "page.md"
  assert run("--page", page) == 0
  text = page.read_text()
  for name in ("pi0-2", "trajectory-0"):
    copy = tmp_path / "page" / f"{name}.json"
    assert store.sha256(copy) in text
    assert copy.read_bytes() == (
        tmp_path / "rows" / f"{name}.json").read_bytes()
  assert (tmp_path / "page" / "modes.png").read_bytes()[1:4] == b"PNG"
  assert str(tmp_path) not in text
  assert run("--page", page) == 0 and page.read_text() == text
  page.write_text("mine")
  assert run("--page", page) == 2
  assert "not written by this command" in capsys.readouterr().err
  assert page.read_text() == "mine"


def test_the_budget_is_that_of_the_slowest():
  assert budget.count(10, [0.25, 0.5]) == 1200
  with pytest.raises(errors.ConfigError, match="--minutes 0.01"):
    budget.count(0.01, [0.5])


def test_time_done_twice_counts_once(tmp_path):
  lines = [{"step": 1, "step_seconds": 9.0}, {"step": 11, "step_seconds": 0.5},
           {"step": 16, "step_seconds": 2.0}]
  (tmp_path / "metrics.jsonl").write_text(
      "".join(json.dumps(line) + "\n" for line in lines))
  assert budget.training_seconds(tmp_path) == 9.0 + 5.0 + 10.0
  assert budget.per_update(tmp_path) == 2.0  # of those after the warm-up


def test_a_schedule_ends_low():
  for updates in (2, 60, 900):
    c = cli.load_config("configs/mini.py", budget.schedule(updates))
    rate = [float(build.learning_rate(c, "vlm")(i)) for i in range(updates)]
    assert c.total_updates == updates and rate[-1] < 0.15 * c.optim.vlm_lr or (
        updates == 2)


def test_how_a_program_ended_is_told(tmp_path, monkeypatch):
  log = tmp_path / "log"
  (tmp_path / "faulty.py").write_text(
      "import os, sys\nprint('E-DATA: torn')\nprint('after')\n"
      "os.kill(os.getpid(), 9) if sys.argv[1:] else sys.exit(3)\n")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
  with pytest.raises(children.Ended) as ended:
    children.run("faulty", log=log)
  assert (ended.value.status, ended.value.line) == (3, "E-DATA: torn")
  with pytest.raises(errors.PeerError, match=f"signal {signal.SIGKILL:d}"):
    children.run("faulty", "now", log=log)
  with pytest.raises(children.Ended, match="ended with 3"):
    (tmp_path / "silent.py").write_text("raise SystemExit(3)")
    children.run("silent", log=log)


def test_sigterm_takes_the_program_along(tmp_path, monkeypatch):
  (tmp_path / "sleeper.py").write_text(
      "import os, pathlib, time\n"
      f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid()))\n"
      "time.sleep(60)\n")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

  def once_it_runs():
    while not (tmp_path / "pid").exists():
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
  before = signal.getsignal(signal.SIGTERM)
  threading.Thread(target=once_it_runs).start()
  with pytest.raises(SystemExit) as left, children.leaving():
    children.run("sleeper", log=tmp_path / "log")
  assert left.value.code == 75
  assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_row_trains_its_variant_on_the_data_of_all(tmp_path):
  parser = argparse.ArgumentParser()
  ablate.add_arguments(parser)
  args = parser.parse_args(["--workdir", str(tmp_path), "--config",
                            "configs/mini.py:skill=label"])
  args.overrides = ["--config.log_every=5"]
  make = ablate.rows.Maker(args, print)
  row, = variants.rows("pi0-2")
  flags = make._flags(row, 30, "folder")
  assert flags[:4] == ["--config", "configs/mini.py:skill=label,views=front",
                       "--workdir", "folder"]
  c = cli.load_config(flags[1], flags[4:])
  assert (c.seed, c.total_updates, c.log_every) == (2, 30, 5)
  assert c.optim.cycle_updates == 30 + c.optim.warmup_updates
  assert (c.model.moe_layers, c.loss.skill, c.skill_choice) == (0, 0, "label")
  assert c.data.root == f"{tmp_path}/data/routes"
  assert c.data.val_list == f"{tmp_path}/data/val_routes.txt"


def test_memory_of_a_program_is_seen(tmp_path, monkeypatch):
  monkeypatch.setattr(children, "SAMPLE_S", 0.05)
  (tmp_path / "large.py").write_text(
      "import time\nx = b'x' * 200_000_000\ntime.sleep(0.6)\n")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
  assert 2e8 < children.run("large", log=tmp_path / "log") < 4e8


@pytest.mark.slow
def test_one_row_from_data_to_page(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(small_run.ROOT)
  args = ["--workdir", tmp_path / "w", "--rows", "trajectory-0", *COUNTS,
          "--minutes", 0.05, *SMALL]
  assert call(*args) == 0, capsys.readouterr().err
  row = store.read(str(tmp_path / "w"), "trajectory-0")
  measured = json.loads((tmp_path / "w" / "budget.json").read_text())
  assert row["updates"] == measured["updates"] >= 2
  assert set(measured["seconds_per_update"]) == {"unlabelled", "sides_backs"}
  assert len(row["episodes"]) == 2 and row["routers"]["camera"]["n"] == 8
  assert row["yardsticks"]["expert"]["success_rate"]["value"] == 100.0
  assert len(row["modes"][0]["plans"]) == 3 and row["training_bytes"] > 1e8
  assert row["latency_ms"]["median"] > 0
  before = (tmp_path / "w" / "rows" / "trajectory-0.json").stat().st_mtime_ns
  assert call(*args) == 0
  after = (tmp_path / "w" / "rows" / "trajectory-0.json").stat().st_mtime_ns
  assert after == before
  assert call("--workdir", tmp_path / "w", "--page", tmp_path / "p.md") == 0
  assert "1 of 33 rows are here" in (tmp_path / "p.md").read_text()
  assert call("--workdir", tmp_path / "w", "--minutes", 1, *args[2:6]) == 3
  assert sys.modules.get("torch") is None
