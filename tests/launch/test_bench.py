"""Benchmark rows by hand, the memory slope, and the data race in miniature."""

import importlib.util
import json
import time

import numpy as np
import pytest

from data_pipeline import loader, normalize, prepare, raw_routes
from launch import bench
from launch.bench import data, rows, sides, soak
from tests.data_pipeline import fixtures


def test_a_row_by_hand():
  row = rows.make("a", [10.0, 20.0, 30.0], peak_bytes=5, floor_ms=8.0,
                  against=("b", [50.0, 70.0]))
  assert row == {"name": "a", "median_ms": 20.0, "p5_ms": 11.0,
                 "p95_ms": 29.0, "peak_bytes": 5, "floor_ms": 8.0,
                 "ratio_to_floor": 2.5,
                 "against": {"name": "b", "median_ms": 60.0, "ratio": 3.0}}
  bare = rows.make("c", [4.0])
  assert bare["floor_ms"] is bare["ratio_to_floor"] is bare["against"] is None
  text = rows.table({"rows": [row, bare], "batch_size": 2,
                     "remarks": ["so much"]})
  lines = text.splitlines()
  assert "100.0" in lines[1] and "2.50" in lines[1]  # samples/s, x floor
  assert "60.0 ms, 3.00 x" in lines[2]
  assert "500.0" in lines[3] and lines[-1] == "so much"


def test_warm_up_is_not_timed():
  def batches():
    for number in range(100):
      time.sleep(0.2 if number < 2 else 0.0)
      taken.append(number)
      yield number

  taken = []
  times = rows.time_blocks(batches(), warmup=2, blocks=3, per_block=4)
  assert len(times) == 3 and max(times) < 200 and taken == list(range(14))


def test_memory_is_that_of_another_process():
  size = 200_000_000
  found, peak = rows.in_fresh_process(allocate, size)
  assert found == size and size < peak < size + rows.memory()


def allocate(size):
  return np.ones(size, np.uint8).nbytes


def test_slope_ignores_the_warm_up():
  seconds = np.arange(0, 600, 2.0)
  # 2 GB are filled in the first minute; then 3 MB a minute.
  resident = 2e9 * np.minimum(seconds / 60, 1) + 3e6 / 60 * seconds
  assert abs(soak.slope_mb_per_minute(seconds, resident) - 3) < 1e-6
  assert soak.slope_mb_per_minute([0.0], [1e9]) == 0
  assert soak.slope_mb_per_minute([], []) == 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """(raw routes, prepared ones) of a few frames, side 14."""
  root = tmp_path_factory.mktemp("routes")
  for i in range(2):
    fixtures.write_route(root, fixtures.NAME.format(i), frames=16)
  out = tmp_path_factory.mktemp("prepared")
  prepare.prepare(
      raw_routes.RawRoutes(str(root), str(root / "labels")), str(out),
      prepare.Options(size=14, horizons=(10,)), (), say=lambda line: None)
  return root, out


@pytest.fixture
def command(folders, monkeypatch):
  """bench.main on them, all sides in this process."""
  monkeypatch.setattr(rows, "in_fresh_process",
                      lambda side, *args: (side(*args), 10**9))
  root, out = folders
  flags = ["data", "--routes", root, "--labels", root / "labels",
           "--prepared", out, "--image-size", 14, "--batch-size", 2,
           "--workers", 1, "--blocks", 2, "--batches", 1]
  return lambda *more: bench.main([str(x) for x in (*flags, *more)])


def test_the_race_has_a_row_for_each_source(command, capsys):
  assert command("--json", "-") == 0
  result = json.loads(capsys.readouterr().out)
  assert [row["name"] for row in result["rows"]] == [
      "raw routes", "prepared shards"]
  for row in result["rows"]:
    assert set(row) == {"name", "median_ms", "p5_ms", "p95_ms", "peak_bytes",
                        "floor_ms", "ratio_to_floor", "against"}
    assert 0 < row["p5_ms"] <= row["median_ms"] <= row["p95_ms"]
    assert row["peak_bytes"] == 10**9 and row["floor_ms"] > 0
  assert result["work"]["windows"] == 12 and result["machine"]["cores"] > 0


def test_a_soak_tells_the_slope(command, capsys, monkeypatch):
  monkeypatch.setattr(soak, "LOOK_EVERY_S", 0.01)
  monkeypatch.setattr(soak, "LIMIT_MB_PER_MINUTE", 1e9)
  assert command("--soak", "0.02", "--json", "-") == 0
  result = json.loads(capsys.readouterr().out)
  assert len(result["soak"]["bytes"]) > 2 and len(result["rows"]) == 1
  monkeypatch.setattr(soak, "LIMIT_MB_PER_MINUTE", -1e9)
  assert command("--soak", "0.02") == 1
  assert "MB a minute after warm-up" in capsys.readouterr().out


def test_pytorch_is_asked_for_by_name_when_absent(command, capsys,
                                                  monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  assert command("--against", "pytorch") == 2
  assert "needs torch and torchvision; install" in capsys.readouterr().err


def test_pytorch_reads_the_same_samples(folders):
  pytest.importorskip("torchvision")
  from launch.bench import torch_data
  root, out = folders
  work = sides.Work(str(root), str(root / "labels"), str(out), batch_size=2,
                    image_size=14, workers=1, blocks=2, batches=1)
  sample = torch_data.Samples(work)[5]
  assert sample["images"].shape == (7, 3, 14, 14)
  windows = sides.windows(work, work.raw)
  ours = loader.SampleTable(windows, normalize.compute(windows), (2,), 3)
  for key in normalize.COLUMNS:
    np.testing.assert_array_equal(sample[key], ours.rows([5])[key][0])
  assert len(torch_data.raw(work)) == 2


@pytest.mark.parametrize("flag", ["--batch-size", "--blocks", "--workers"])
def test_counts_must_be_positive(command, capsys, flag):
  assert command(flag, "0") == 2
  assert f"E-CONFIG: {flag} 0" in capsys.readouterr().err


def test_what_is_raced_for_is_recorded_once(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(sides, "record", lambda *args: asked.append(args[0]))
  monkeypatch.setattr(sides, "prepare", lambda work, say: asked.append(work))
  monkeypatch.setattr(sides, "facts", lambda work: {})
  monkeypatch.setattr(data, "_race", lambda *args: {"rows": [], "ok": True})
  assert bench.main(["data", "--workdir", str(tmp_path)]) == 0
  assert asked[0] == str(tmp_path / "data")
  assert asked[1].raw == str(tmp_path / "data" / "routes")
  assert asked[1].prepared == str(tmp_path / "prepared_224")
