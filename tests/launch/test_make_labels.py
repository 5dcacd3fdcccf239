"""The make_labels command: labels, comparison, exit codes."""

import json

import pytest

from data_pipeline.labels import describe, files
from launch import make_labels
from tests.data_pipeline import fixtures
from tests.data_pipeline.labels import drives

NAMES = ("TJunction_Town01_Route0_Weather0",
         "TJunction_Town01_Route1_Weather0")
TURNED = "CAM_FRONT_LEFT"


@pytest.fixture
def data(tmp_path):
  """Two routes of five frames: a turn at 2 and 3; and reference labels that
  begin the turn one frame earlier."""
  for name in NAMES:
    (tmp_path / "routes" / name / "anno").mkdir(parents=True)
    for t, near in enumerate((4, 4, 1, 1, 4)):
      fixtures.write_frame(tmp_path / "routes" / name, t,
                           drives.moment(near=near))
    fixtures.write_labels(tmp_path / "reference", name,
                          ["NULL"] + [TURNED] * 3 + ["NULL"], ["NORMAL"] * 5)
  return tmp_path


def call(data, *args, root=True):
  routes = ["--root", data / "routes"] if root else []
  return make_labels.main([str(arg) for arg in (
      *routes, "--out", data / "out", "--workers", 1, *args)])


def test_it_labels_and_says_what(data, capsys):
  assert call(data) == 0
  out = capsys.readouterr().out
  assert "2 routes, 10 frames; 2 labelled now, 0 were there" in out
  assert "NULL 6, CAM_FRONT_LEFT 4" in out
  assert files.read(str(data / "out"), "camera", NAMES[0]).count(TURNED) == 2
  assert call(data) == 0
  assert "0 labelled now, 2 were there" in capsys.readouterr().out


def test_the_comparison_is_printed_and_written(data, capsys):
  assert call(data, "--diff", data / "reference", "--json",
              data / "report.json") == 0
  out = capsys.readouterr().out
  # 4 of 5 agree; by chance 0.4*0.6 + 0.6*0.4 = 0.48; (0.8-0.48)/0.52.
  assert "camera: accuracy 0.8000, macro-F1 0.8000, kappa 0.6154" in out
  assert "FRONT_LEFT       2/2, 0, onset +1 1.0, offset +0 0.0" in out
  assert "skill: accuracy 1.0000, macro-F1 1.0000, kappa -, 10 frames" in out
  report = json.loads((data / "report.json").read_text())
  assert report["frames"] == 10
  for kind, size in (("camera", 5), ("skill", 7)):
    assert {"accuracy", "macro_f1", "kappa", "confusion"} <= set(report[kind])
    assert len(report[kind]["confusion"]) == size


def test_json_on_standard_output_is_alone_there(data, capsys):
  assert call(data, "--diff", data / "reference", "--json", "-") == 0
  printed = capsys.readouterr()
  assert json.loads(printed.out)["camera"]["accuracy"] == pytest.approx(0.8)
  assert "compared: 2 routes" in printed.err


def test_labels_are_compared_as_they_lie_there(data, capsys):
  assert make_labels.main([
      "--out", str(data / "reference"), "--diff",
      str(data / "reference")]) == 0
  assert "camera: accuracy 1.0000" in capsys.readouterr().out
  # A published folder may hold one kind, and lack a route.
  for name in NAMES:
    (data / "reference" / "scenario_labels" / f"{name}.json").unlink()
  (data / "reference" / "camera_labels" / f"{NAMES[1]}.json").unlink()
  assert call(data, "--diff", data / "reference") == 0
  out = capsys.readouterr().out
  assert "skill: no such labels" in out
  assert "1 routes have no camera labels" in out


def test_a_broken_route_is_named_and_the_others_are_labelled(data, capsys):
  (data / "routes" / NAMES[0] / "anno" / "00001.json.gz").write_bytes(b"")
  assert call(data, "--diff", data / "reference") == 3
  printed = capsys.readouterr()
  assert f"{NAMES[0]}/anno/00001.json.gz cannot be read" in printed.err
  assert "E-DATA: 1 of 2 routes have no labels" in printed.err
  assert "compared: 1 routes, 5 frames" in printed.out


def test_without_a_single_route_nothing_is_compared(data, capsys):
  for name in NAMES:
    (data / "routes" / name / "anno" / "00000.json.gz").unlink()
  assert call(data, "--diff", data / "reference") == 3
  assert "compared" not in capsys.readouterr().out


def test_other_labels_are_replaced_on_demand_only(data, capsys):
  (data / "reference").rename(data / "out")
  assert call(data) == 3
  assert "--overwrite" in capsys.readouterr().err
  assert call(data, "--overwrite") == 0
  assert files.read(str(data / "out"), "camera", NAMES[0]).count(TURNED) == 2


def test_unknown_scenario_types_are_told(data, capsys):
  (data / "routes" / NAMES[0]).rename(
      data / "routes" / "Unheard_Town01_Route0_Weather0")
  assert call(data) == 0
  assert "without rules of their own: Unheard;" in capsys.readouterr().err


def test_maps_must_be_there(data, capsys):
  assert call(data, "--maps", data / "maps") == 3
  assert "Town01.xodr: no such map" in capsys.readouterr().err


@pytest.mark.parametrize("args, message", [
    ([], "--out is missing"), (["--out", "o"], "neither --root nor --diff"),
    (["--out", "o", "--diff", "d", "--overwrite"], "give --root"),
    (["--out", "o", "--diff", "d", "--maps", "m"], "give --root"),
    (["--out", "o", "--root", "r", "--json", "-"], "give --diff")])
def test_a_command_line_that_makes_no_sense_is_refused(args, message, capsys):
  assert make_labels.main(args) == 2
  assert message in capsys.readouterr().err


def test_a_folder_without_routes_is_refused(data, capsys):
  assert make_labels.main(["--root", str(data / "nowhere"), "--out",
                           str(data / "out")]) == 3
  assert make_labels.main(["--out", str(data / "out"), "--diff",
                           str(data / "reference")]) == 3
  assert "no label file for any route" in capsys.readouterr().err


def test_the_rules_are_printed(capsys):
  assert make_labels.main(["--rules"]) == 0
  assert capsys.readouterr().out == describe.tables()
