"""Live images are what the recorder would have written and the loader read."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import images, sensor_images


def frame(width=160, height=90, seed=0):
  """Coloured blobs, blue-green-red-alpha."""
  rng = np.random.default_rng(seed)
  small = rng.integers(0, 256, (9, 16, 4), np.uint8)
  return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_true_colours_are_bit_equal_to_a_recorded_frame():
  pixels = frame()
  _, jpeg = cv2.imencode(".jpg", pixels[..., :3], [
      cv2.IMWRITE_JPEG_QUALITY, sensor_images.JPEG_QUALITY])
  np.testing.assert_array_equal(sensor_images.prepare(pixels, 32),
                                images.decode(jpeg.tobytes(), 32))


def test_the_release_s_order_swaps_the_encoder_s_colours_only():
  pixels = frame()
  _, jpeg = cv2.imencode(".jpg", pixels[..., 2::-1], [
      cv2.IMWRITE_JPEG_QUALITY, sensor_images.JPEG_QUALITY])
  swapped = sensor_images.prepare(pixels, 32, "rgb")
  np.testing.assert_array_equal(
      swapped, images.decode(jpeg.tobytes(), 32)[..., ::-1])
  usual = sensor_images.prepare(pixels, 32).astype(int)
  assert 0 < np.abs(swapped - usual).max() < 80


def test_alpha_is_ignored_and_views_are_taken():
  pixels = frame()
  clear = pixels.copy()
  clear[..., 3] = 0
  np.testing.assert_array_equal(sensor_images.prepare(pixels, 32),
                                sensor_images.prepare(clear, 32))
  flipped = pixels[:, ::-1]
  np.testing.assert_array_equal(sensor_images.prepare(flipped, 32),
                                sensor_images.prepare(flipped.copy(), 32))


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_threads_give_the_same_in_order(order):
  frames = [frame(seed=i) for i in range(6)]
  preparer = sensor_images.Preparer(24, order, threads=3)
  for got, pixels in zip(preparer(frames), frames, strict=True):
    np.testing.assert_array_equal(
        got, sensor_images.prepare(pixels, 24, order))
  preparer.close()


def test_the_result_is_an_rgb_image():
  red = np.zeros((90, 160, 4), np.uint8)
  red[..., 2] = 255
  got = sensor_images.prepare(red, 16)
  assert got.shape == (16, 16, 3) and got.dtype == np.uint8
  assert got[..., 0].min() > 240 and got[..., 1:].max() < 15
  Image.fromarray(got).save(io.BytesIO(), "PNG")
