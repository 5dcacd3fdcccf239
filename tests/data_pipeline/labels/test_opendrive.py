"""Maps: the questions asked of one, with a stand-in and with CARLA's own."""

import sys
import types

import pytest

from data_pipeline import errors
from data_pipeline.labels import generate, opendrive
from tests.data_pipeline import fixtures
from tests.data_pipeline.labels import drives


class LaneType:
  """CARLA's are flags, of which Any holds all."""

  Driving, Parking, Shoulder, Any = 2, 16, 4, -2


class Waypoint:
  """On a road along x: parking at y > 5, driving at 0..5 and at y < 0, where
  it is the only lane; a junction from x = 100 on."""

  def __init__(self, x, y):
    self.x, self.y = x, y
    self.is_junction = x >= 100.0
    self.lane_type = LaneType.Parking if y > 5.0 else LaneType.Driving

  def next(self, distance):
    return [Waypoint(self.x + distance, self.y)]

  def get_left_lane(self):
    return Waypoint(self.x, self.y - 3.5) if self.y > 0.0 else None

  def get_right_lane(self):
    return Waypoint(self.x, self.y + 3.5)


class Carla:
  """As much of the module as the rules use."""

  LaneType = LaneType
  Location = staticmethod(lambda x, y, z: (x, y, z))

  class Map:
    def __init__(self, name, text):
      if text != "<OpenDRIVE/>":
        raise RuntimeError("failed to generate map")

    def get_waypoint(self, location, lane_type):
      x, y, _ = location
      return Waypoint(x, min(y, 5.0) if lane_type == LaneType.Driving else y)


def spot(x, y):
  return opendrive.RoadMap(Carla, Carla.Map("", "<OpenDRIVE/>")).spot(
      (x, y, 0.0))


def test_junctions_and_what_lies_just_before_them():
  found = [(s.junction, s.junction_ahead)
           for s in (spot(x, 1.0) for x in (90.0, 93.0, 100.0))]
  assert found == [(False, False), (False, True), (True, True)]


def test_a_parking_lane_is_told_from_the_road_beside_it():
  assert [spot(0.0, y).parking for y in (1.0, 6.0)] == [False, True]


def test_only_lanes_to_drive_on_count_as_sides():
  assert spot(0.0, -1.0).sides == {"RIGHT"}
  assert spot(0.0, 1.0).sides == {"LEFT", "RIGHT"}
  assert spot(0.0, 4.0).sides == {"LEFT"}
  assert spot(0.0, 4.0).drivable("LEFT")
  assert not spot(0.0, 4.0).drivable("RIGHT")


@pytest.fixture
def maps(tmp_path, monkeypatch):
  """A folder with the stand-in's map of Town01."""
  monkeypatch.setitem(sys.modules, "carla", Carla)
  (tmp_path / "Town01.xodr").write_text("<OpenDRIVE/>")
  opendrive.load.cache_clear()
  yield str(tmp_path)
  opendrive.load.cache_clear()


def test_a_route_is_labelled_with_its_towns_map(tmp_path, maps):
  name = "TJunction_Town01_Route0_Weather0"
  (tmp_path / name / "anno").mkdir(parents=True)
  for t in range(6):
    # In the junction from frame 3 on; the command says it from 1 to 4.
    fixtures.write_frame(tmp_path / name, t, drives.moment(
        97.0 + t, 1.0, yaw=0.0, near=2 if 1 <= t <= 4 else 4))
  with_map = generate.label_route(str(tmp_path), name, maps=maps)
  assert with_map.source == "map"
  assert drives.runs(with_map.camera) == [("CAM_FRONT_RIGHT", 3, 5)]
  without = generate.label_route(str(tmp_path), name)
  assert without.source == "command"
  assert drives.runs(without.camera) == [("CAM_FRONT_RIGHT", 1, 4)]


def test_a_missing_or_broken_map_and_a_missing_client_are_named(
    tmp_path, maps, monkeypatch):
  with pytest.raises(errors.DataError, match="Town02.xodr: no such map"):
    opendrive.load(maps, "Town02")
  (tmp_path / "Town03.xodr").write_text("<svg/>")
  with pytest.raises(errors.DataError, match="Town03.xodr is not a map"):
    opendrive.load(maps, "Town03")
  monkeypatch.setitem(sys.modules, "carla", None)
  with pytest.raises(errors.ConfigError, match="pip install"):
    opendrive.load(maps, "Town01")


def test_without_maps_carla_is_not_imported(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "carla", types.ModuleType("broken"))
  name = "TJunction_Town01_Route0_Weather0"
  (tmp_path / name / "anno").mkdir(parents=True)
  fixtures.write_frame(tmp_path / name, 0, drives.moment())
  assert generate.label_route(str(tmp_path), name).camera == ["NULL"]


def road(number, x, length, junction, before, after):
  """OpenDRIVE of a straight road along x: one lane against it; two lanes and
  a parking lane along it."""
  lane = lambda i, kind, width: (
      f'<lane id="{i}" type="{kind}" level="false"><link><predecessor '
      f'id="{i}"/><successor id="{i}"/></link><width sOffset="0" a="{width}" '
      'b="0" c="0" d="0"/></lane>')
  return (
      f'<road name="" length="{length}" id="{number}" junction="{junction}">'
      f"<link>{before}{after}</link><planView><geometry s=\"0\" x=\"{x}\" "
      f'y="0" hdg="0" length="{length}"><line/></geometry></planView>'
      '<lanes><laneSection s="0"><left>' + lane(1, "driving", 3.5)
      + '</left><center><lane id="0" type="none" level="false"/></center>'
      "<right>" + lane(-1, "driving", 3.5) + lane(-2, "driving", 3.5)
      + lane(-3, "parking", 2.5) + "</right></laneSection></lanes></road>")


def link(tag, kind, number, contact=""):
  contact = contact and f' contactPoint="{contact}"'
  return f'<{tag} elementType="{kind}" elementId="{number}"{contact}/>'


XODR = (
    '<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4"/>'
    + road(1, 0, 50, -1, "", link("successor", "junction", 9))
    + road(2, 50, 20, 9, link("predecessor", "road", 1, "end"),
           link("successor", "road", 3, "start"))
    + road(3, 70, 50, -1, link("predecessor", "road", 2, "end"), "")
    + '<junction id="9" name=""><connection id="0" incomingRoad="1" '
    'connectingRoad="2" contactPoint="start"><laneLink from="-1" to="-1"/>'
    '<laneLink from="-2" to="-2"/></connection></junction></OpenDRIVE>')


def test_carlas_own_map_answers_the_same_questions(tmp_path):
  pytest.importorskip("carla")
  (tmp_path / "Town01.xodr").write_text(XODR)
  opendrive.load.cache_clear()
  road_map = opendrive.load(str(tmp_path), "Town01")
  at = lambda x, y: road_map.spot((x, y, 0.0))
  assert at(10.0, 1.75) == opendrive.Spot(
      False, False, False, frozenset({"LEFT", "RIGHT"}))
  assert at(10.0, 5.25).sides == {"LEFT"}  # to the right one parks
  assert at(10.0, 8.3).parking
  assert at(43.0, 1.75).junction_ahead and not at(41.0, 1.75).junction_ahead
  assert at(60.0, 1.75).junction and not at(80.0, 1.75).junction
  (tmp_path / "Town02.xodr").write_text("no map")
  with pytest.raises(errors.DataError, match="Town02.xodr is not a map"):
    opendrive.load(str(tmp_path), "Town02")
