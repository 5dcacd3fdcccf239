"""Labels of hand-made drives, worked out from the definitions."""

import pytest

from data_pipeline.miniworld import labels, town

ROAD, LEFT_LANE = town.LaneName(1, -2), town.LaneName(1, -1)
OPPOSING = town.LaneName(1, 1)


def fact(lane=ROAD, speed=6.0, brake=0.0, emergency=False, car=None,
         walker=None, light=None, turn=None):
  """A frame with an obstacle or a walker at (x, y, points)."""
  triggers = [(kind, *place) for kind, place in (
      ("vehicle", car), ("walker", walker)) if place]
  return labels.Facts(lane, turn, speed, brake, emergency, tuple(triggers),
                      light)


def runs(values):
  """[(value, first, last)] of the stretches that are not the default."""
  found = []
  for i, value in enumerate(values):
    if value in ("NULL", "NORMAL"):
      continue
    if found and found[-1][0] == value and found[-1][2] == i - 1:
      found[-1][2] = i
    else:
      found.append([value, i, i])
  return [tuple(run) for run in found]


@pytest.mark.parametrize("command, name", [
    (town.LEFT, "CAM_FRONT_LEFT"), (town.RIGHT, "CAM_FRONT_RIGHT"),
    (town.STRAIGHT, None)])
def test_a_turn_looks_to_its_exit_inside_the_junction_only(command, name):
  # Crossings overlap: the lane that is nearest may lead elsewhere.
  other = town.LaneName(11, -1, is_junction=True, command=town.STRAIGHT)
  cameras, skills = labels.label(
      [fact()] * 4 + [fact(other, turn=command)] * 5 + [fact()] * 3, None)
  assert runs(cameras) == ([(name, 4, 8)] if name else [])
  assert set(skills) == {"NORMAL"}


@pytest.mark.parametrize("bypass, lane, views", [
    ("same", LEFT_LANE, ("CAM_BACK_LEFT", "CAM_BACK_RIGHT")),
    ("opposing", OPPOSING, ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"))])
def test_a_bypass_looks_out_and_back(bypass, lane, views):
  frames = ([fact(car=(30.0, 0.0, 40))] * 5      # too far: 20 m at 6 m/s
            + [fact(car=(14.0, 0.0, 90))] * 10   # from 5: in sight
            + [fact(lane, car=(3.0, 3.5, 900))] * 20   # from 15: out
            + [fact(car=(-9.0, 0.0, 900))] * 10)       # from 35: home
  cameras, skills = labels.label(frames, bypass)
  # Out until 3 frames in the new lane; back from 1.2 s before the change.
  assert runs(cameras) == [(views[0], 5, 17), (views[1], 23, 37)]
  assert runs(skills) == [("OVERTAKING", 5, 37)]


def test_a_bypass_that_is_cut_off_keeps_its_first_view():
  frames = [fact(car=(14.0, 0.0, 90))] * 8
  cameras, skills = labels.label(frames, "same")
  # The first five frames do not count.
  assert runs(cameras) == [("CAM_BACK_LEFT", 5, 7)]
  assert runs(skills) == [("OVERTAKING", 5, 7)]


def test_an_obstacle_out_of_sight_or_aside_is_no_trigger():
  for place in ((14.0, 0.0, 14), (14.0, 5.3, 90), (-1.0, 0.0, 90), None):
    cameras, skills = labels.label([fact(car=place)] * 9, "same")
    assert not runs(cameras) and not runs(skills)


def test_braking_for_a_person_lasts_while_it_is_near_and_five_frames_more():
  near = (12.0, 3.0, 60)
  frames = [fact(walker=near, brake=0.9 if 20 <= i < 24 else 0.0)
            for i in range(40)]
  frames[30:] = [fact(walker=(-1.0, 0.0, 60))] * 10
  _, skills = labels.label(frames, None)
  # Frame i counts when a brake lies in i-5..i+10: 10..28; then 5 more.
  assert runs(skills) == [("EMERGENCY_BRAKE", 10, 33)]


def test_without_braking_or_without_a_person_there_is_no_emergency():
  _, skills = labels.label([fact(walker=(12.0, 3.0, 60))] * 9, None)
  assert not runs(skills)
  _, skills = labels.label(
      [fact(walker=(12.0, 4.6, 60), brake=1.0)] * 9, None)
  assert not runs(skills)


def test_a_light_counts_within_forty_metres_and_before_the_junction():
  inside = fact(light=2.0, turn=town.STRAIGHT)
  frames = ([fact(light=45.0)] * 2 + [fact(light=39.0)] * 3
            + [inside] * 2 + [fact()])
  assert runs(labels.label(frames, None)[1]) == [("TRAFFIC_LIGHT", 2, 4)]
