"""Reading routes: numbers, labels, splits, and every kind of bad file."""

import gzip
import json
import math
import pathlib

import numpy as np
import pytest

from data_pipeline import bench2drive, errors, spec
from tests.data_pipeline import fixtures


def route(tmp_path, **options):
  root, name, labels = fixtures.write_route(tmp_path, **options)
  return root, name, labels, tmp_path / name


def test_reads_what_was_written(tmp_path):
  root, name, labels, _ = route(tmp_path, frames=4)
  fixtures.write_labels(
      tmp_path / "labels", name,
      ["NULL", "CAM_BACK_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK"],
      ["NORMAL", "TRAFFIC_LIGHT", "GIVEWAY", "PARKING_EXIT"])
  got = bench2drive.read_route(root, name, labels)
  want = fixtures.frame(2)
  assert len(got) == 4 and got.name == name
  np.testing.assert_allclose(
      got.position[2], want["bounding_boxes"][0]["location"][:2])
  # theta is a compass: CARLA's yaw is a quarter turn less.
  np.testing.assert_allclose(got.heading, -math.pi / 2 + 0.02 * np.arange(4))
  np.testing.assert_allclose(got.speed[2], want["speed"])
  np.testing.assert_allclose(got.acceleration[2], want["acceleration"])
  np.testing.assert_allclose(got.angular_velocity[2], want["angular_velocity"])
  np.testing.assert_allclose(
      got.far_node[2], [want["x_command_far"], want["y_command_far"]])
  assert got.camera.tolist() == [2, 3, 1, 2]
  assert got.skill.tolist() == [6, 5, 4, 1]


def test_hidden_files_are_no_frames(tmp_path):
  root, name, _, folder = route(tmp_path, frames=3)
  (folder / "anno" / "._00002.json.gz").write_bytes(b"left by an archiver")
  assert len(bench2drive.read_route(root, name)) == 3


def test_no_labels_root_means_no_labels(tmp_path):
  root, name, _, _ = route(tmp_path, frames=3, labels=False)
  got = bench2drive.read_route(root, name)
  assert got.camera is None and got.skill is None


@pytest.mark.parametrize("theta", [float("nan"), None])
def test_frame_without_compass_takes_the_box_heading(tmp_path, theta):
  annotate = lambda t: fixtures.frame(
      t, turn=0.3, theta=theta if t == 2 else ...)
  root, name, _, _ = route(tmp_path, frames=4, annotate=annotate)
  box = bench2drive.read_route(root, name).heading
  np.testing.assert_allclose(box, -math.pi / 2 + 0.3 * np.arange(4))
  zero = bench2drive.read_route(root, name, nan_heading="zero").heading
  np.testing.assert_allclose(zero, [box[0], box[1], 0.0, box[3]])


def test_box_heading_is_on_the_compass_branch(tmp_path):
  # Both sources agree all around the circle, not only up to whole turns.
  with_compass = lambda t: fixtures.frame(t, turn=1.0)
  without = lambda t: fixtures.frame(t, turn=1.0, theta=None)
  a = route(tmp_path / "a", frames=7, annotate=with_compass)
  b = route(tmp_path / "b", frames=7, annotate=without)
  np.testing.assert_allclose(bench2drive.read_route(*a[:2]).heading,
                             bench2drive.read_route(*b[:2]).heading)


def test_other_fields_must_be_numbers(tmp_path):
  root, name, _, folder = route(tmp_path, frames=4)
  for field in ("speed", "acceleration", "x_command_far"):
    broken = fixtures.frame(1) | {field: None}
    fixtures.write_frame(folder, 1, broken)
    with pytest.raises(errors.DataError, match="00001.json.gz.*" + field[:4]):
      bench2drive.read_route(root, name)
  broken = fixtures.frame(1)
  broken["angular_velocity"][0] = float("nan")
  fixtures.write_frame(folder, 1, broken)
  with pytest.raises(errors.DataError, match="angular_velocity"):
    bench2drive.read_route(root, name)


def test_first_box_must_be_the_ego(tmp_path):
  root, name, _, folder = route(tmp_path, frames=3)
  broken = fixtures.frame(1)
  broken["bounding_boxes"][0]["class"] = "vehicle"
  fixtures.write_frame(folder, 1, broken)
  with pytest.raises(errors.DataError, match="00001.*'vehicle'.*ego_vehicle"):
    bench2drive.read_route(root, name)


@pytest.mark.parametrize("content", [
    gzip.compress(json.dumps(fixtures.frame(1)).encode())[:-20],  # cut short
    b"no gzip", b"", gzip.compress(b"{"), gzip.compress(b"[]"),
    gzip.compress(b"{}")], ids=["short", "plain", "empty", "cut", "list",
                                "bare"])
def test_broken_annotation_names_the_file(tmp_path, content):
  root, name, _, folder = route(tmp_path, frames=3)
  (folder / "anno" / "00001.json.gz").write_bytes(content)
  with pytest.raises(errors.DataError, match=name + ".*00001.json.gz"):
    bench2drive.read_route(root, name)


@pytest.mark.parametrize("missing", [
    "anno/00001.json.gz", "camera/rgb_back_left/00002.jpg"])
def test_missing_file_is_named(tmp_path, missing):
  root, name, _, folder = route(tmp_path, frames=3)
  (folder / missing).unlink()
  with pytest.raises(errors.DataError, match=f"{name}/{missing} is missing"):
    bench2drive.read_route(root, name)


def test_missing_camera_folder_is_named(tmp_path):
  root, name, _, folder = route(tmp_path, frames=2)
  (folder / "camera" / "rgb_back").rename(folder / "camera" / "rgb_top_down")
  with pytest.raises(errors.DataError, match="rgb_back: No such"):
    bench2drive.read_route(root, name)


def test_labels_of_another_length_are_misaligned(tmp_path):
  root, name, labels, _ = route(tmp_path, frames=5)
  for length in (4, 6):
    fixtures.write_labels(tmp_path / "labels", name, ["NULL"] * length,
                          ["NORMAL"] * 5)
    with pytest.raises(bench2drive.MisalignedError,
                       match=f"{name}.json labels {length}.*has 5"):
      bench2drive.read_route(root, name, labels)


def test_unknown_label_names_file_frame_and_choices(tmp_path):
  root, name, labels, _ = route(tmp_path, frames=3)
  fixtures.write_labels(tmp_path / "labels", name, ["NULL"] * 3,
                        ["NORMAL", "OVERTAKE", "NORMAL"])
  with pytest.raises(errors.DataError) as caught:
    bench2drive.read_route(root, name, labels)
  for part in (f"scenario_labels/{name}.json", "'OVERTAKE'", "frame 1",
               *spec.SKILL_OF_LABEL):
    assert part in str(caught.value)


def test_missing_or_broken_label_file_is_named(tmp_path):
  root, name, labels, _ = route(tmp_path, frames=3)
  path = tmp_path / "labels" / "camera_labels" / f"{name}.json"
  path.write_text("{")
  with pytest.raises(errors.DataError, match="camera_labels.*cannot be read"):
    bench2drive.read_route(root, name, labels)
  path.unlink()
  with pytest.raises(errors.DataError, match="camera_labels.*is missing"):
    bench2drive.read_route(root, name, labels)


def test_lists_route_folders_only(tmp_path):
  for index in (2, 1):
    fixtures.write_route(tmp_path, fixtures.NAME.format(index), frames=1)
  (tmp_path / ".partial" / "anno").mkdir(parents=True)
  (tmp_path / "file.txt").write_text("")
  assert bench2drive.list_routes(str(tmp_path)) == [
      fixtures.NAME.format(1), fixtures.NAME.format(2)]
  with pytest.raises(errors.DataError, match="no route"):
    bench2drive.list_routes(str(tmp_path / "labels"))
  with pytest.raises(errors.DataError, match="no such folder"):
    bench2drive.list_routes(str(tmp_path / "absent"))


def test_name_needs_four_parts_but_not_a_whole_last_one():
  cut = "VehicleTurningRoutePedestrian_Town15_Route523_Weathe"
  assert bench2drive.parse_name(cut)[1:] == ("Town15", "Route523", "Weathe")
  with pytest.raises(errors.DataError, match="2 of 4"):
    bench2drive.parse_name("Accident_Town05")


def test_official_split_holds_50_routes_of_all_43_types():
  val = pathlib.Path(bench2drive.OFFICIAL_VAL).read_text().split()
  kinds = [bench2drive.parse_name(name)[0] for name in val]
  assert len(set(val)) == 50 and len(set(kinds)) == 43
  assert max(map(kinds.count, kinds)) == 2
  train, held_out = bench2drive.split(
      ["other", *val], val_list=bench2drive.OFFICIAL_VAL)
  assert train == ["other"] and held_out == val


def test_split_by_share_depends_on_names_and_seed_only():
  names = [f"r{i}" for i in range(40)]
  train, val = bench2drive.split(names, val_fraction=0.25, seed=3)
  assert len(val) == 10 and sorted(train + val) == sorted(names)
  mixed = bench2drive.split(names[::-1], val_fraction=0.25, seed=3)
  assert set(mixed[1]) == set(val)
  assert set(bench2drive.split(names, val_fraction=0.25, seed=4)[1]) != set(val)


def test_a_release_of_1100_routes_is_split_by_type():
  # Release 0.0.4: 44 types of 25 routes.
  names = [f"Type{k}_Town12_Route{25 * k + r}_Weather{r}"
           for k in range(44) for r in range(25)]
  train, val = bench2drive.split(names, val_fraction=0.05, seed=1)
  kinds = [bench2drive.parse_name(name)[0] for name in val]
  assert len(val) == 55 and len(train) == 1045
  assert len(set(kinds)) == 44 and max(map(kinds.count, kinds)) == 2
  # Not always the same route of a type.
  other = bench2drive.split(names, val_fraction=0.05, seed=2)[1]
  assert len(set(val) & set(other)) < 15


def test_a_share_follows_uneven_types():
  names = [f"{kind}_Town01_Route{i}_Weather0"
           for kind, n in (("A", 40), ("B", 20), ("C", 4)) for i in range(n)]
  _, val = bench2drive.split(names, val_fraction=0.25)
  kinds = [name[0] for name in val]
  assert [kinds.count(kind) for kind in "ABC"] == [10, 5, 1]


def test_split_refuses_what_holds_nothing_out():
  with pytest.raises(errors.DataError, match="none of them among the 1"):
    bench2drive.split(["a"], val_list=bench2drive.OFFICIAL_VAL)
  with pytest.raises(errors.DataError, match="absent.txt"):
    bench2drive.split(["a"], val_list="absent.txt")
  for wrong in ({}, {"val_fraction": 1.5}):
    with pytest.raises(errors.ConfigError):
      bench2drive.split(["a"], **wrong)
