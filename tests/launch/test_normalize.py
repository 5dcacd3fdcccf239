"""The command: statistics of synthetic routes, written and checked."""

import functools
import json

import pytest

from data_pipeline import normalize
from launch import normalize as command
from tests.data_pipeline import fixtures


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
  """Flags that name three routes, one of them for validation, much faster."""
  root = tmp_path_factory.mktemp("routes")
  for i, speed in enumerate((5.0, 6.0, 60.0)):
    fixtures.write_route(
        root, fixtures.NAME.format(i), frames=40,
        annotate=functools.partial(fixtures.frame, speed=speed))
  (root / "val.txt").write_text(fixtures.NAME.format(2) + "\n")
  return ["--config", "configs/tiny.py", f"--config.data.root={root}",
          f"--config.data.labels_root={root / 'labels'}",
          f"--config.data.val_list={root / 'val.txt'}"]


@pytest.mark.parametrize("horizon", [10, 20, 21])
def test_what_is_written_fits_its_own_data(flags, tmp_path, capsys, horizon):
  path = str(tmp_path / "s.json")
  flags = [*flags, f"--config.model.horizon={horizon}"]
  assert command.main([*flags, "--out", path]) == 0
  said = capsys.readouterr().out
  assert f"{2 * (40 - horizon)} windows of 2 routes, horizon {horizon}" in said
  assert normalize.load(path, horizon).p99["speed"] > 6
  assert command.main([*flags, "--check", path, "--json", "-"]) == 0
  report = json.loads(capsys.readouterr().out)
  assert report["faults"] == [] and set(report["keys"]) == set(normalize.KEYS)


def test_data_from_elsewhere_exits_with_3(flags, tmp_path, capsys):
  path = str(tmp_path / "s.json")
  assert command.main([*flags, "--out", path]) == 0
  assert command.main([*flags, "--check", path, "--split", "val"]) == 3
  assert "FAULT: speed: 100.0% lie outside" in capsys.readouterr().out


def test_nothing_is_overwritten_and_no_horizon_mistaken(flags, tmp_path,
                                                        capsys):
  path = str(tmp_path / "s.json")
  normalize.OFFICIAL_H10.save(path)
  assert command.main([*flags, "--out", path]) == 3
  assert "holds other statistics" in capsys.readouterr().err
  assert command.main([*flags, "--out", path, "--overwrite"]) == 0
  longer = [*flags, "--config.model.horizon=21"]
  assert command.main([*longer, "--check", path]) == 3
  assert "horizon 10, this run has horizon 21" in capsys.readouterr().err


@pytest.mark.parametrize("what, flag", [
    ("--out", ["--split", "val"]), ("--check", ["--overwrite"])])
def test_a_flag_without_an_effect_is_refused(flags, tmp_path, capsys, what,
                                             flag):
  assert command.main([*flags, what, str(tmp_path / "s.json"), *flag]) == 2
  assert f"{flag[0]} is not for {what}" in capsys.readouterr().err
  assert not (tmp_path / "s.json").exists()
