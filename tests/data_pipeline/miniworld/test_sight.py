"""Lines of sight and the imitated point count."""

import numpy as np
import pytest

from data_pipeline.miniworld import actors, sight

RNG = np.random.default_rng(0)


def points(target, *others, heading=0.0):
  """Points on `target` for an ego at the origin among `others`."""
  occluders = sight.boxes([target, *others])
  same = np.array([[True] + [False] * len(others)])
  boxes = sight.boxes([target])
  share = sight.visible_share(np.zeros(2), heading, boxes, occluders, same)
  return share[0], sight.point_count(np.zeros(2), boxes, share)[0]


def wall(x, y, half):
  return actors.scenery(None, half, (x, y))


@pytest.mark.parametrize("bearing", [0, 60, -60, 120, -120, 180])
def test_a_wall_hides_and_its_absence_shows(bearing):
  angle = np.radians(bearing)
  direction = np.array([np.cos(angle), np.sin(angle)])
  person = actors.walker(RNG, 15 * direction, 0.0)
  barrier = actors.scenery(None, (0.3, 4.0, 2.0), 9 * direction, angle)
  assert points(person)[0] == 1.0
  assert points(person, barrier) == (0.0, 0)


def test_what_stands_behind_or_aside_hides_nothing():
  person = actors.walker(RNG, (12.0, 0.0), 0.0)
  for other in (wall(16, 0, (0.3, 4, 2)), wall(8, 4, (2, 1, 2)),
                wall(-5, 0, (1, 4, 2))):
    assert points(person, other)[0] == 1.0


def test_a_head_above_a_roof_does_not_count():
  person = actors.walker(RNG, (14.0, 0.0), 0.0)
  car = wall(11, 0, (0.9, 2.0, 0.74))
  share, count = points(person, car)
  assert 0 < share < sight.GLIMPSE and count == 0


def test_points_thin_out_with_the_square_of_the_distance():
  near, far = (points(actors.walker(np.random.default_rng(1), (d, 0.0), 0.0))[1]
               for d in (10.0, 20.0))
  assert near == pytest.approx(4 * far, rel=0.1)


def test_it_does_not_matter_how_the_world_is_turned():
  def seen(turn):
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, -sin], [sin, cos]])
    person = actors.walker(np.random.default_rng(1), rotate @ (15.0, 1.6), turn)
    car = actors.scenery(None, (2.0, 0.9, 1.2), rotate @ (10.0, 2.1), turn)
    return points(person, car, heading=turn)[0]
  assert 0 < seen(0.0) < 1
  assert seen(0.0) == seen(1.0) == seen(-2.5)
