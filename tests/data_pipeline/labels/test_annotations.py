"""Reading annotations: every quirk that occurs, and what is refused."""

import gzip
import json
import math

import pytest

from data_pipeline import errors
from data_pipeline.labels import annotations
from tests.data_pipeline import fixtures
from tests.data_pipeline.labels import drives


def write(tmp_path, moments, name="TJunction_Town01_Route0_Weather0"):
  (tmp_path / name / "anno").mkdir(parents=True)
  for t, moment in enumerate(moments):
    fixtures.write_frame(tmp_path / name, t, moment)
  return str(tmp_path), name


def test_places_are_in_the_ego_frame():
  moment = drives.moment(3.0, -2.0, yaw=2.0, boxes=[drives.car(12.0, -1.5)])
  frame = annotations.parse_frame("f", moment)
  box, = frame.boxes
  assert (box.x, box.y) == pytest.approx((12.0, -1.5))
  assert box.distance == pytest.approx(math.hypot(12.0, 1.5))
  assert frame.yaw == pytest.approx(2.0)
  assert frame.place(frame.location) == pytest.approx((0.0, 0.0))


def test_bare_nan_and_null_are_not_known(tmp_path):
  moment = drives.moment(boxes=[drives.car(5.0)])
  moment |= {"theta": math.nan, "speed": None}
  moment["bounding_boxes"][1] |= {"speed": None, "num_points": math.nan}
  frame, = annotations.read_frames(*write(tmp_path, [moment]))
  assert math.isnan(frame.record.number("speed"))
  box, = frame.boxes
  assert math.isnan(box.record.number("speed"))
  assert math.isnan(box.record.number("num_points"))


def test_static_vehicles_and_unknown_classes_are_left_out():
  parked = drives.car(5.0, state="static")
  del parked["base_type"]  # recordings lack it there
  prop = drives.car(5.0) | {"class": "pole"}
  frame = annotations.parse_frame("f", drives.moment(boxes=[parked, prop]))
  assert frame.boxes == ()


def test_only_the_fields_that_a_rule_reads_must_be_there():
  moment = drives.moment(boxes=[drives.car(5.0)])
  for key in ("brake", "only_ap_brake"):
    del moment[key]
  for key in ("rotation", "section_id", "num_points", "type_id"):
    del moment["bounding_boxes"][1][key]
  assert drives.label("TJunction", [moment] * 9).skill == ["NORMAL"] * 9
  with pytest.raises(errors.DataError, match="00000.json.gz has no 'brake'"):
    drives.label("HardBreakRoute", [moment] * 9)
  with pytest.raises(errors.DataError, match=(
      r"bounding_boxes\[1\] \(vehicle 7\) has no 'num_points'")):
    drives.label("ParkedObstacle", [moment] * 9)


@pytest.mark.parametrize("spoil, message", [
    (lambda m: m.pop("bounding_boxes"), "no list of bounding_boxes"),
    (lambda m: m.update(bounding_boxes=[]), "no list of bounding_boxes"),
    (lambda m: m["bounding_boxes"].reverse(), "is a 'vehicle', not the ego"),
    (lambda m: m["bounding_boxes"][0].pop("world2ego"), "has no 'world2ego'"),
    (lambda m: m["bounding_boxes"][0].update(world2ego=[[1.0]]),
     "want a 4x4 matrix"),
    (lambda m: m["bounding_boxes"][0].update(location=[0.0, None, 0.0]),
     "want 3 finite numbers"),
    (lambda m: m["bounding_boxes"][0].pop("lane_id"), "has no 'lane_id'"),
    (lambda m: m["bounding_boxes"][1].pop("location"), "has no 'location'"),
    (lambda m: m["bounding_boxes"][1].update(location="here"),
     "want 3 numbers"),
    (lambda m: m.update(speed="fast"), "speed is 'fast', want a number"),
    (lambda m: m.update(command_near=None), "want a whole number"),
    (lambda m: m.pop("x_command_far"), "has no 'x_command_far'"),
])
def test_a_broken_frame_is_named_with_its_field(spoil, message):
  moment = drives.moment(boxes=[drives.car(5.0)])
  spoil(moment)
  with pytest.raises(errors.DataError, match="00000.json.gz") as caught:
    drives.read("TJunction", [moment])
  assert message in str(caught.value)
  assert "extract or record" in str(caught.value)


@pytest.mark.parametrize("content", [
    b"", b"no gzip", gzip.compress(b"{\"speed\": "),
    gzip.compress(b"\xff\xfe"), gzip.compress(json.dumps({}).encode())[:-9],
    gzip.compress(b"[1, 2]")], ids=[
        "empty", "plain", "no object's end", "no text", "cut", "list"])
def test_a_broken_file_is_named(tmp_path, content):
  root, name = write(tmp_path, [drives.moment()] * 3)
  path = tmp_path / name / "anno" / "00001.json.gz"
  path.write_bytes(content)
  with pytest.raises(errors.DataError, match="00001.json.gz"):
    annotations.read_frames(root, name)


def test_frames_must_be_there_without_a_gap(tmp_path):
  root, name = write(tmp_path, [drives.moment()] * 3)
  (tmp_path / name / "anno" / "00001.json.gz").unlink()
  with pytest.raises(errors.DataError, match="frame 1 of 2"):
    annotations.count_frames(root, name)
  with pytest.raises(errors.DataError, match="anno"):
    annotations.count_frames(root, "Other_Town01_Route0_Weather0")
  (tmp_path / "Empty_Town01_Route0_Weather0" / "anno").mkdir(parents=True)
  with pytest.raises(errors.DataError, match="no frame in it"):
    annotations.count_frames(root, "Empty_Town01_Route0_Weather0")
