"""A frame in the data set's words: fields, frames and units agree."""

import json

import numpy as np
import pytest

from data_pipeline.miniworld import annotations
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import world as worlds

GREEN = "VanillaSignalizedTurnEncounterGreenLight"


def frames(scenario, seed, ticks=60, every=6):
  world = worlds.World((64, 36))
  world.reset(scenario, seed)
  pilot, out = experts.Expert(world), []
  for tick in range(ticks):
    control = pilot.control()
    if tick % every == 0:
      out.append((annotations.annotate(world, control, pilot.emergency),
                  world.state()))
    world.step(control)
  return out


@pytest.fixture(scope="module")
def green():
  return frames(GREEN, 1, ticks=150)


def test_every_frame_is_plain_finite_json(green):
  for anno, _ in green:
    text = json.dumps(anno, allow_nan=False)
    assert json.loads(text) == anno


def test_the_ego_comes_first_and_stands_at_the_origin_of_its_matrix(green):
  for anno, state in green:
    ego = anno["bounding_boxes"][0]
    assert ego["class"] == "ego_vehicle"
    origin = np.array(ego["world2ego"]) @ [*ego["location"], 1.0]
    np.testing.assert_allclose(origin, (0, 0, 0, 1), atol=1e-9)
    ahead = state.position + 3 * np.array([np.cos(state.heading),
                                           np.sin(state.heading)])
    np.testing.assert_allclose(
        np.array(ego["world2ego"]) @ [*ahead, 0.0, 1.0], (3, 0, 0, 1),
        atol=1e-9)
    assert all(box["class"] != "ego_vehicle"
               for box in anno["bounding_boxes"][1:])


def test_compass_and_yaw_agree(green):
  for anno, _ in green:
    yaw = np.radians(anno["bounding_boxes"][0]["rotation"][2])
    turn = anno["theta"] - np.pi / 2 - yaw
    assert np.cos(turn) == pytest.approx(1.0)
    assert 0 <= anno["theta"] < 2 * np.pi


def test_one_light_affects_the_ego_until_it_is_passed(green):
  flags = []
  for anno, state in green:
    lights = [box for box in anno["bounding_boxes"]
              if box["class"] == "traffic_light"]
    mine = [box for box in lights if box["affects_ego"]]
    assert len(lights) == 4 and len(mine) <= 1
    for box in mine:
      assert box["state"] == 2
      place = np.array(box["trigger_volume_location"][:2]) - state.position
      assert place @ [np.cos(state.heading), np.sin(state.heading)] > -1.5
    flags.append(bool(mine))
  assert flags[0] and not flags[-1]
  assert flags == sorted(flags, reverse=True)


def test_boxes_carry_what_the_label_rules_read():
  for anno, _ in frames("DynamicObjectCrossing", 0, ticks=20):
    for box in anno["bounding_boxes"]:
      assert {"id", "type_id", "base_type", "location", "center", "extent",
              "rotation", "distance", "num_points", "road_id", "lane_id",
              "section_id"} <= box.keys()
      assert box["id"].isdecimal() and min(box["extent"]) > 0
      if box["class"] == "walker":
        assert box["speed"] == 0.0  # as CARLA reports it
      if box["class"] == "vehicle":
        assert box["state"] in ("dynamic", "static")


def test_commands_lead_ahead():
  for anno, state in frames("TJunction", 1):
    for kind, least in (("near", 2.0), ("far", 4.0)):
      node = np.array([anno[f"x_command_{kind}"], anno[f"y_command_{kind}"]])
      delta = node - state.position
      ahead = delta @ [np.cos(state.heading), np.sin(state.heading)]
      assert ahead > least - 1.0
      assert anno[f"command_{kind}"] in (2, 4)
