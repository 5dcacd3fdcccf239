"""What is drawn lies where it is projected, and hides what is behind it."""

import types

import numpy as np
import pytest

from data_pipeline.miniworld import cameras, ground, render, shapes, town

LOOK = render.Look((90, 140, 200), (190, 210, 230), fog=0.0, light=1.0)
SIZE = (320, 180)
AT, HEADING = np.array([3.0, -2.0]), 0.4


def renderer(image=None):
  """Over a ground of one colour that reaches 60 m in all directions."""
  if image is None:
    image = np.full((1200, 1200, 3), 90, np.uint8)
  return render.Renderer(types.SimpleNamespace(
      image=image, origin=np.array([-60.0, -60.0])), LOOK, SIZE)


def soup(*boxes):
  """Boxes (x, y, yaw, half sizes, colour) standing on the ground."""
  meshes = [shapes.hedge(half, colour) for *_, half, colour in boxes]
  return render.Soup(
      [mesh.placed(box[:2], box[2]) for mesh, box in zip(meshes, boxes)],
      [mesh.colours for mesh in meshes], [box[:2] for box in boxes])


def beside(bearing, distance):
  angle = HEADING + np.radians(bearing)
  return AT + distance * np.array([np.cos(angle), np.sin(angle)])


def drawn(boxes, name):
  """Mask [H,W] of pixels that the boxes changed."""
  empty = renderer().images(soup(), AT, HEADING)[name].astype(int)
  full = renderer().images(soup(*boxes), AT, HEADING)[name].astype(int)
  return np.abs(full - empty).sum(-1) > 30


@pytest.mark.parametrize("name", list(cameras.RIG))
def test_a_box_is_drawn_where_its_corners_project(name):
  camera = cameras.rig(SIZE)[name]
  x, y = beside(np.degrees(camera.yaw) + 4, 9.0)
  half = np.array([1.2, 0.7, 0.8])
  corners = shapes.hedge(half, (255, 0, 0)).placed((x, y), 1.0).reshape(-1, 3)
  pixels = camera.project(cameras.world_to_camera(
      corners, *camera.pose(AT, HEADING)))
  rows, columns = np.nonzero(drawn([(x, y, 1.0, half, (255, 0, 0))], name))
  want = np.concatenate([pixels.min(0), pixels.max(0)])
  got = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  # The middle is exact; OpenCV's filled polygons are a pixel fat all around.
  np.testing.assert_allclose(np.reshape(got, (2, 2)).mean(0),
                             want.reshape(2, 2).mean(0), atol=0.8)
  np.testing.assert_allclose(got, want, atol=2.0)


def test_the_ground_lies_where_it_projects():
  image = np.full((1200, 1200, 3), 90, np.uint8)
  x, y = beside(8.0, 7.0)
  row, column = round((y + 60) * 10), round((x + 60) * 10)
  image[row - 3:row + 3, column - 3:column + 3] = (255, 0, 0)
  camera = cameras.rig(SIZE)["rgb_front"]
  picture = renderer(image).images(soup(), AT, HEADING)["rgb_front"]
  red = picture[..., 0].astype(int) - picture[..., 1]
  rows, columns = np.nonzero(red > 40)
  want = camera.project(cameras.world_to_camera(
      np.array([[x, y, 0.0]]), *camera.pose(AT, HEADING)))[0]
  np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], want,
                             atol=1.5)


def test_nearer_things_hide_farther_ones_in_any_order():
  half = (0.5, 0.5, 1.0)
  near = (*beside(0, 8.0), HEADING, half, (255, 0, 0))
  far = (*beside(0, 14.0), HEADING, half, (0, 0, 255))
  for boxes in ([near, far], [far, near]):
    picture = renderer().images(soup(*boxes), AT, HEADING)["rgb_front"]
    assert picture[92, 160, 0] > 150 > picture[92, 160, 2]


def test_a_mirrored_world_gives_mirrored_pictures():
  boxes = [(4.0, -5.0, 0.3, (0.8, 0.5, 0.9), (200, 40, 40)),
           (12.0, 2.0, -0.2, (2.0, 0.9, 0.7), (200, 40, 40)),
           (-6.0, -3.0, 0.1, (1.0, 0.6, 0.8), (200, 40, 40)),
           (5.0, 6.0, 0.5, (0.9, 0.4, 1.0), (200, 40, 40)),
           (-3.0, 7.0, 0.9, (0.9, 0.4, 1.0), (200, 40, 40)),
           (-2.0, -6.0, 0.9, (0.9, 0.4, 1.0), (200, 40, 40))]
  mirrored = [(x, -y, -yaw, half, colour) for x, y, yaw, half, colour in boxes]

  def masks(things):
    empty = renderer().images(soup(), np.zeros(2), 0.0)
    full = renderer().images(soup(*things), np.zeros(2), 0.0)
    return {k: np.abs(full[k].astype(int) - empty[k]).sum(-1) > 60
            for k in full}

  ours, theirs = masks(boxes), masks(mirrored)
  swap = {"left": "right", "right": "left"}
  for name in cameras.RIG:
    *head, tail = name.split("_")
    other = "_".join([*head, swap.get(tail, tail)])
    assert ours[name].any()
    assert np.mean(ours[name] != theirs[other][:, ::-1]) < 0.01, name


def test_same_scene_same_bytes():
  boxes = soup((8.0, 1.0, 0.2, (2.0, 1.0, 0.8), (10, 200, 30)))
  one, two = (renderer().images(boxes, AT, HEADING) for _ in range(2))
  for name in one:
    assert one[name].shape == (180, 320, 3) and one[name].dtype == np.uint8
    np.testing.assert_array_equal(one[name], two[name])


def test_fog_brings_far_things_nearer_to_the_horizon():
  foggy = render.Renderer(
      types.SimpleNamespace(image=np.full((1200, 1200, 3), 90, np.uint8),
                            origin=np.array([-60.0, -60.0])),
      render.Look(LOOK.zenith, LOOK.horizon, fog=0.03, light=1.0), SIZE)
  near, far = (foggy.images(soup((*beside(0, d), HEADING, (0.5, 3.0, 1.0),
                                  (0, 0, 0))), AT, HEADING)["rgb_front"]
               for d in (6.0, 30.0))
  assert near[91, 160].sum() < far[91, 160].sum() < sum(LOOK.horizon)


def test_wheels_may_stand_on_the_road_only():
  streets = town.street(100.0, own=1, opposing=1)
  floor = ground.Ground(streets, np.random.default_rng(0))
  points = np.array([[50.0, 1.75], [50.0, -1.75], [50.0, 4.5], [50.0, 7.0],
                     [50.0, -7.0], [500.0, 0.0]])
  np.testing.assert_array_equal(
      floor.is_drivable(points), [True, True, True, False, False, False])
