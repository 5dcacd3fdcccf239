"""The comparison of two label folders, with numbers worked out by hand."""

import pytest

from data_pipeline import bench2drive, errors
from data_pipeline.labels import compare
from tests.data_pipeline import fixtures

LIGHT = "VanillaSignalizedTurnEncounterGreenLight_Town01_Route1_Weather0"
PARKED = "ParkedObstacle_Town01_Route2_Weather0"
L, R, NONE = "CAM_FRONT_LEFT", "CAM_BACK_RIGHT", "NULL"


def folders(tmp_path, routes):
  """Writes {route: (reference cameras, our cameras)}; skills are NORMAL."""
  for name, sides in routes.items():
    for folder, camera in zip(("reference", "ours"), sides, strict=True):
      fixtures.write_labels(tmp_path / folder, name, camera,
                            ["NORMAL"] * len(camera))
  return str(tmp_path / "ours"), str(tmp_path / "reference")


def test_scores_of_a_confusion_matrix():
  # 10 samples; observed agreement 0.7; by chance 0.6*0.5 + 0.4*0.5 = 0.5.
  scores = compare.agreement([[4, 2, 0], [1, 3, 0], [0, 0, 0]], "abc")
  assert scores["accuracy"] == pytest.approx(0.7)
  assert scores["kappa"] == pytest.approx(0.4)
  # F1: 2*4/(6+5) and 2*3/(4+5); c is used by nobody.
  assert scores["macro_f1"] == pytest.approx((8 / 11 + 6 / 9) / 2)
  first, _, unused = scores["classes"]
  assert first["precision"] == pytest.approx(4 / 5)
  assert first["recall"] == pytest.approx(4 / 6)
  assert unused == {"name": "c", "support": 0, "precision": 0.0,
                    "recall": 0.0, "f1": 0.0}


def test_a_class_that_only_we_use_costs_macro_f1():
  scores = compare.agreement([[9, 1], [0, 0]], "ab")
  assert scores["macro_f1"] == pytest.approx((18 / 19 + 0.0) / 2)


def test_kappa_is_unknown_where_chance_is_certain():
  assert compare.agreement([[7, 0], [0, 0]], "ab")["kappa"] is None
  assert compare.agreement([[0, 7], [0, 0]], "ab")["kappa"] == 0.0


def test_a_folder_agrees_with_itself(tmp_path):
  ours, _ = folders(tmp_path, {LIGHT: ([L, NONE, R],) * 2})
  report = compare.compare(ours, ours)
  assert (report["frames"], report["routes"]) == (3, 1)
  for kind in ("camera", "skill"):
    assert report[kind]["accuracy"] == report[kind]["macro_f1"] == 1.0
    assert report[kind]["worst"] == []
  assert report["camera"]["kappa"] == 1.0


def test_null_and_the_back_camera_are_one_class(tmp_path):
  ours, reference = folders(tmp_path, {LIGHT: (["CAM_BACK"] * 3, [NONE] * 3)})
  assert compare.compare(ours, reference)["camera"]["accuracy"] == 1.0


def test_rows_are_the_reference_and_types_are_apart(tmp_path):
  ours, reference = folders(tmp_path, {
      LIGHT: ([L, L, NONE, NONE], [L, NONE, NONE, NONE]),
      PARKED: ([R, R], [R, L])})
  camera = compare.compare(ours, reference)["camera"]
  assert camera["confusion"][0] == [1, 0, 1, 0, 0]
  assert camera["confusion"][4] == [1, 0, 0, 0, 1]
  by_type = camera["per_type"]
  assert {kind: part["accuracy"] for kind, part in by_type.items()} == {
      "VanillaSignalizedTurnEncounterGreenLight": 0.75, "ParkedObstacle": 0.5}
  assert [entry["route"] for entry in camera["worst"]] == [PARKED, LIGHT]


def test_runs_are_matched_by_class_and_overlap(tmp_path):
  reference = [NONE] * 2 + [L] * 6 + [NONE] * 4 + [L] * 2 + [R] * 2
  ours = [L] * 1 + [NONE] * 3 + [L] * 2 + [NONE] * 1 + [L] * 3 + [NONE] * 6
  # The run at 2..7 meets ours at 4..5 (2 frames) and 7..9 (1 frame).
  edges = compare.compare(*folders(
      tmp_path, {LIGHT: (reference, ours)}))["camera"]["edges"]
  left = edges["FRONT_LEFT"]
  assert (left["runs"], left["matched"], left["extra"]) == (2, 1, 2)
  assert left["onset"] == {"median": 2, "mean_abs": 2.0}
  assert left["offset"] == {"median": -2, "mean_abs": 2.0}
  right = edges["BACK_RIGHT"]
  assert (right["runs"], right["matched"], right["extra"]) == (1, 0, 0)
  assert right["onset"] == {"median": None, "mean_abs": None}


def test_of_equal_overlaps_the_first_run_is_taken(tmp_path):
  ours = [L, NONE, NONE, L]
  edges = compare.compare(*folders(
      tmp_path, {LIGHT: ([L] * 4, ours)}))["camera"]["edges"]["FRONT_LEFT"]
  assert edges["offset"]["median"] == -3


def test_a_reference_with_one_kind_gives_one_report(tmp_path):
  ours, reference = folders(tmp_path, {LIGHT: ([L], [L]), PARKED: ([R], [R])})
  for path in (tmp_path / "reference" / "scenario_labels").iterdir():
    path.unlink()
  (tmp_path / "reference" / "camera_labels" / f"{PARKED}.json").unlink()
  report = compare.compare(ours, reference)
  assert report["skill"] is None
  assert report["frames"] == 1
  assert report["missing"] == {"camera": [PARKED], "skill": [PARKED, LIGHT]}


def test_only_the_named_routes_are_compared(tmp_path):
  ours, reference = folders(tmp_path, {LIGHT: ([L], [L]), PARKED: ([R], [L])})
  assert compare.compare(ours, reference, routes=[LIGHT])["routes"] == 1


def test_nothing_in_common_and_other_lengths_are_refused(tmp_path):
  ours, reference = folders(tmp_path, {LIGHT: ([L, L], [L])})
  with pytest.raises(bench2drive.MisalignedError, match="2 frames.* 1;"):
    compare.compare(ours, reference)
  with pytest.raises(errors.DataError, match="no label file for any route"):
    compare.compare(ours, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text, message", [
    ("{\"0\": ", "is no JSON"), ("[]", "no object of labels"),
    ("{}", "no object of labels"),
    ('{"1": "NULL"}', "1 labels but none for frame 0"),
    ('{"0": "NULL", "1": "BACK"}', "unknown label 'BACK' at frame 1")])
def test_a_broken_label_file_is_named(tmp_path, text, message):
  ours, reference = folders(tmp_path, {LIGHT: ([L], [L])})
  path = tmp_path / "reference" / "camera_labels" / f"{LIGHT}.json"
  path.write_text(text)
  with pytest.raises(errors.DataError, match=message) as caught:
    compare.compare(ours, reference)
  assert str(path) in str(caught.value)
