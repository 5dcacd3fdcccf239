"""Decoding, resizing, and the augmentation against TensorFlow's own ops."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipeline import errors, images, tf_cpu
from tests.data_pipeline import fixtures

WHOLE = np.array([[0, 0, 1, 1]], np.float32)
NEUTRAL = np.array([[0, 1, 1, 0]], np.float32)


def photo(side=16, seed=0):
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
  return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))[None]


def augment(x, boxes=WHOLE, factors=NEUTRAL):
  return images.augment(x, boxes, np.asarray(factors, np.float32)).numpy()


def test_shrinking_averages_and_ignores_the_aspect():
  # Stripes one pixel wide become grey only under an antialiased resize.
  stripes = np.zeros((8, 64, 3), np.uint8)
  stripes[:, ::2] = 200
  out = io.BytesIO()
  Image.fromarray(stripes).save(out, "PNG")
  got = images.decode(out.getvalue(), 8)
  assert got.shape == (8, 8, 3) and got.dtype == np.uint8
  assert abs(got[:, 1:-1].astype(int) - 100).max() <= 3


def test_grey_files_become_rgb():
  out = io.BytesIO()
  Image.fromarray(np.full((6, 6), 77, np.uint8)).save(out, "JPEG")
  assert (images.decode(out.getvalue(), 4) == 77).all()


def test_bad_files_are_named(tmp_path):
  good = fixtures.jpeg(0, 0)
  path = tmp_path / "00007.jpg"
  with pytest.raises(errors.DataError, match="00007.jpg is missing"):
    images.load(str(path), 8)
  size = good.index(b"\xff\xc0") + 5  # height and width, two bytes each
  huge = good[:size] + b"\xff\xff\xff\xff" + good[size + 4:]
  for content in (good[:len(good) // 2], b"", b"text", good[:10], huge):
    path.write_bytes(content)
    with pytest.raises(errors.DataError, match="00007.jpg is no readable.*set"):
      images.load(str(path), 8)


def test_neutral_augmentation_keeps_every_pixel():
  every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
  np.testing.assert_array_equal(augment(every), every)
  # colours pass through HSV and back: truncation may cost one level
  assert abs(augment(photo()).astype(int) - photo()).max() <= 1


def test_conversion_to_bytes_truncates():
  # 100 and 101 at corners 16 apart: the crop's far corner at 0.6 of a pixel
  # is 100.6, and 100.6 / 255 * 255.5 is 100.8.
  ramp = np.arange(100, 116, dtype=np.uint8)[None, None, :, None]
  ramp = np.broadcast_to(ramp, (1, 16, 16, 3))
  box = np.array([[0, 0, 1, 0.6 / 15]], np.float32)
  assert augment(ramp, box)[0, 0, -1].tolist() == [100] * 3


def test_crop_is_corner_aligned():
  ramp = np.broadcast_to(
      np.arange(16, dtype=np.uint8)[:, None, None] * 10, (16, 16, 3))[None]
  # rows 3 to 12 of 15, spread over 16 rows: row i is 3 + 9 i / 15
  box = np.array([[3 / 15, 0, 12 / 15, 1]], np.float32)
  want = 10 * (3 + 9 * np.arange(16) / 15)
  got = augment(ramp, box)[0, :, 5, 0]
  assert abs(got - want).max() <= 1 and got[0] == 30 and got[-1] == 120


@pytest.mark.parametrize("name,column,value", [
    ("adjust_brightness", 0, -0.07), ("adjust_contrast", 1, 1.09),
    ("adjust_saturation", 2, 0.92), ("adjust_saturation", 2, 1.1),
    ("adjust_hue", 3, 0.04), ("adjust_hue", 3, -0.05)])
def test_colour_ops_are_tensorflows(name, column, value):
  tf = tf_cpu.tensorflow()
  x = photo(seed=3)
  factors = NEUTRAL.copy()
  factors[0, column] = value
  want = getattr(tf.image, name)(x / np.float32(255), value)
  want = (np.clip(want, 0, 1) * 255.5).astype(np.uint8)
  assert abs(augment(x, factors=factors).astype(int) - want).max() <= 1
  assert abs(x.astype(int) - want).max() > 2  # it does something


def test_jitter_follows_the_order_of_the_release():
  # Clipping after each op matters: it changes the mean that contrast uses.
  tf = tf_cpu.tensorflow()
  x, values = photo(seed=5), (0.1, 0.9, 1.1, -0.03)
  want = x / np.float32(255)
  for name, value in zip(("brightness", "contrast", "saturation", "hue"),
                         values, strict=True):
    want = np.clip(getattr(tf.image, f"adjust_{name}")(want, value), 0, 1)
  got = augment(x, factors=[values])
  assert abs(got.astype(int) - (want * 255.5).astype(np.uint8)).max() <= 1


def test_ranges_of_the_draws():
  draws = np.random.default_rng(0).random((4000, 8), np.float32)
  boxes, factors = images.augmentation(draws)
  top, left, bottom, right = boxes.T
  height, width = bottom - top, right - left
  assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-6
  area, ratio = height * width, width / height
  # Clipping at 1 only narrows both ranges.
  assert 0.8 - 1e-6 < area.min() < 0.81 and 0.97 < area.max() <= 1
  assert 0.9 - 1e-6 <= ratio.min() < 0.91 and 1.09 < ratio.max() <= 1.1 + 1e-6
  for column, (low, high) in enumerate(
      ((-0.1, 0.1), (0.9, 1.1), (0.9, 1.1), (-0.05, 0.05))):
    assert low - 1e-6 <= factors[:, column].min() < low + 0.01 * (high - low)
    assert high + 1e-6 >= factors[:, column].max() > high - 0.01 * (high - low)


def test_middle_draw_by_hand():
  # u = 1/2: area 0.9, ratio sqrt(0.99) (the middle of the logarithms).
  boxes, factors = images.augmentation(np.full((1, 8), 0.5))
  height = (0.9 / 0.99**0.5)**0.5
  width = (0.9 * 0.99**0.5)**0.5
  np.testing.assert_allclose(
      boxes, [[(1 - height) / 2, (1 - width) / 2, (1 + height) / 2,
               (1 + width) / 2]], rtol=1e-6)
  np.testing.assert_allclose(factors, [[0, 1, 1, 0]], atol=1e-7)


def test_shared_crop_is_a_family_of_one_number():
  draws = np.random.default_rng(0).random((50, 8))
  shared, factors = images.augmentation(draws, shared_crop=True)
  same = draws.copy()
  same[:, 1:4] = draws[:, :1]
  np.testing.assert_array_equal(shared, images.augmentation(same)[0])
  own, own_factors = images.augmentation(draws)
  assert (own != shared).any()
  np.testing.assert_array_equal(factors, own_factors)


def test_as_many_samples_in_a_call_as_are_small():
  assert images.group(48, 7 * 24 * 24) == 48
  assert images.group(48, 7 * 60 * 60) == 12             # 15 would not divide
  assert images.group(8, 7 * 224 * 224) == 1


def test_an_image_is_the_same_in_every_company():
  """To the last bit, so that batches are the same on any number of hosts."""
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (336, 24, 24, 3), dtype=np.uint8)
  boxes, factors = images.augmentation(rng.random((336, 8)))
  every = images.augment(x, boxes, factors).numpy()
  for few in (7, 42, 168):
    parts = [images.augment(x[i:i + few], boxes[i:i + few],
                            factors[i:i + few]).numpy()
             for i in range(0, 336, few)]
    np.testing.assert_array_equal(np.concatenate(parts), every)


def test_images_do_not_influence_each_other():
  x = np.concatenate([photo(seed=1), photo(seed=2)])
  boxes, factors = images.augmentation(
      np.random.default_rng(1).random((2, 8), np.float32))
  both = images.augment(x, boxes, factors).numpy()
  for i in range(2):
    one = images.augment(x[i:i+1], boxes[i:i+1], factors[i:i+1]).numpy()
    np.testing.assert_array_equal(both[i], one[0])
