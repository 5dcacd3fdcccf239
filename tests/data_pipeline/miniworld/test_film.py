"""Films: whole files of the right length, or none."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import errors
from data_pipeline.miniworld import film
from data_pipeline.miniworld import world as worlds

SIZE = (64, 36)


class Driver:
  """Has an answer as a policy gives it."""

  answer = {"camera": 3, "skill_weights": np.array(
      [0.1, 0, 0.6, 0, 0, 0.2, 0.1])}


@pytest.fixture(scope="module")
def world():
  world = worlds.World(SIZE)
  world.reset("ParkedObstacle", 0)
  return world


def test_the_chosen_camera_alone_is_framed(world):
  picture = film.compose(world, Driver(), worlds.Control(throttle=0.5))
  width, height = film.TILE
  assert picture.shape == (3 * height, 3 * width, 3)
  framed = [(picture[row * height + 2, column * width:(column + 1) * width]
             == film.FRAME).all(-1).mean() > 0.9
            for row in range(2) for column in range(3)]
  assert framed == [False, False, False, True, False, False]  # back left


def test_bars_are_as_long_as_the_weights(world):
  picture = film.compose(world, Driver(), worlds.Control())
  width, height = film.TILE
  bars = picture[2 * height:, width:2 * width]
  row = lambda i: bars[34 + 16 * i - 4, 118:]
  assert (row(2) == film.FRAME).all(-1).sum() == pytest.approx(77, abs=2)
  assert (row(5) == film.DIM).all(-1).sum() == pytest.approx(26, abs=2)


@pytest.mark.parametrize("answer", [None, {"skill_weights": [0.2, 0.8]}])
def test_models_with_other_experts_or_none_are_filmed(world, answer):
  driver = type("Other", (), {"answer": answer})
  picture = film.compose(world, driver, worlds.Control())
  width, height = film.TILE
  bars = (picture[2 * height:, width:2 * width] == film.FRAME).all(-1).sum()
  assert (bars > 900) == (answer is not None)  # 102 x 10 pixels


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_a_film_has_a_picture_per_plan_that_it_shows(tmp_path, world, name):
  path = str(tmp_path / name)
  with film.Film(path, SIZE) as team:
    for tick in range(9):
      team.watch(world, Driver(), worlds.Control(brake=tick / 9))
      world.step(worlds.Control(brake=1.0))
  if name.endswith("gif"):
    with Image.open(path) as image:
      assert image.n_frames == team.count > 0
  else:
    reader = cv2.VideoCapture(path)
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == team.count > 0
  assert os.listdir(tmp_path) == [name]


def test_a_film_that_is_broken_off_leaves_nothing(tmp_path, world):
  with pytest.raises(KeyboardInterrupt):
    with film.Film(str(tmp_path / "x.mp4"), SIZE) as team:
      team.watch(world, Driver(), worlds.Control())
      raise KeyboardInterrupt
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["film.avi", "nowhere/film.gif"])
def test_other_names_are_refused(tmp_path, name):
  with pytest.raises(errors.ConfigError):
    film.Film(str(tmp_path / name), SIZE)


def test_a_full_disk_is_told(tmp_path, world, monkeypatch):
  def full(*args, **kw):
    raise OSError(28, "No space left on device")
  monkeypatch.setattr(Image.Image, "save", full)
  with pytest.raises(errors.StorageError, match="No space left"):
    with film.Film(str(tmp_path / "x.gif"), SIZE) as team:
      for _ in range(4):
        team.watch(world, Driver(), worlds.Control())
        world.step(worlds.Control())
  assert not os.listdir(tmp_path)
