"""Camera files to pixels, and the training augmentation.

Resizing is Pillow's antialiased bilinear, what torchvision does to a Pillow
image; TensorFlow's and JAX's give other pixels. Axes: n images, S side.
"""

import functools
import io
import warnings

import numpy as np
from PIL import Image

from data_pipeline import errors, tf_cpu

# Uniform numbers an image's augmentation takes, in this order.
DRAWS = ("scale", "ratio", "top", "left", "brightness", "contrast",
         "saturation", "hue")
# What is raised for bytes that are no whole image.
UNREADABLE = (OSError, ValueError)
# Pillow knows fifty formats; one of them starts another program to read it.
FORMATS = ("JPEG", "PNG")
MOST_PIXELS = 1 << 25  # of an image: 6 times 4K, 100 MB
# Of small images many are read and augmented in one call, which costs more than
# they do.
PIXELS_AT_ONCE = 400_000


def load(path, size):
  """Reads an image file -> [S,S,3] uint8 RGB, its aspect ignored.

  Raises:
    DataError: the file is missing, truncated or no image.
  """
  try:
    with open(path, "rb") as file:
      return decode(file.read(), size)
  except FileNotFoundError:
    raise errors.DataError(
        f"{path} is missing; extract or record the route again, or set "
        "on_bad_record=skip") from None
  except UNREADABLE as error:
    raise errors.DataError(
        f"{path} is no readable image ({error}); extract or record the route "
        "again, or set on_bad_record=skip") from None


def decode(data, size):
  """Encoded bytes -> [S,S,3] uint8; raises one of UNREADABLE."""
  return opened(data, lambda image: np.asarray(image.resize(
      (size, size), Image.Resampling.BILINEAR).convert("RGB")))


def opened(data, use):
  """use(Pillow's image of encoded bytes); raises one of UNREADABLE.

  The size is looked at before anything is decoded: a header of a few bytes
  may claim gigabytes.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
          raise ValueError(f"{image.width}x{image.height} pixels are more than "
                           f"the {MOST_PIXELS} that are read")
        return use(image)
  except (OSError, ValueError, MemoryError):
    raise
  except Exception as error:  # Pillow raises what it likes for forged bytes
    raise ValueError(f"{type(error).__name__}: {error}") from None


def augmentation(draws, *, shared_crop=False):
  """Uniform numbers -> what to do to each image.

  Args:
    draws: [n,8] in [0,1), columns as in DRAWS.
    shared_crop: take the crop's size, ratio and both offsets from one number,
      as the release does by reusing one seed.

  Returns:
    boxes [n,4] float32 (y1, x1, y2, x2, shares of the image) and factors
    [n,4] float32: added brightness, factor of contrast, factor of saturation,
    added hue (turns).
  """
  u = dict(zip(DRAWS, np.moveaxis(draws.astype(np.float64), -1, 0),
               strict=True))
  if shared_crop:
    u |= {name: u["scale"] for name in ("ratio", "top", "left")}
  between = lambda name, low, high: low + (high - low) * u[name]
  area = between("scale", 0.8, 1.0)
  ratio = np.exp(between("ratio", np.log(0.9), np.log(1.1)))
  height = np.minimum(np.sqrt(area / ratio), 1)
  width = np.minimum(np.sqrt(area * ratio), 1)
  top, left = u["top"] * (1 - height), u["left"] * (1 - width)
  boxes = np.stack([top, left, top + height, left + width], -1)
  factors = np.stack([
      between("brightness", -0.1, 0.1), between("contrast", 0.9, 1.1),
      between("saturation", 0.9, 1.1), between("hue", -0.05, 0.05)], -1)
  return boxes.astype(np.float32), factors.astype(np.float32)


def group(samples, pixels):
  """How many of so many samples to load in one call: a divisor of them.

  Args:
    pixels: of a sample, all its images together.
  """
  return max(n for n in range(1, samples + 1)
             if samples % n == 0 and (n == 1 or n * pixels <= PIXELS_AT_ONCE))


def augment(images, boxes, factors):
  """Crops, resizes back and jitters colours: TensorFlow ops, traceable.

  Order and clipping are the release's. Its conversions RGB -> HSV -> RGB after
  saturation and again for hue are one here, which is the same function.

  Args:
    images: [n,S,S,3] uint8.
    boxes, factors: [n,4] each, see augmentation().

  Returns:
    [n,S,S,3] uint8 tensor.
  """
  tf = tf_cpu.tensorflow()
  count, side = tf.shape(images)[0], images.shape[1:3]
  crops = tf.image.crop_and_resize(images, boxes, tf.range(count), side)
  return _compiled_jitter()(crops / 255.0, factors)


@functools.cache
def _compiled_jitter():
  # One pass over the pixels instead of twenty: a fifth of the time.
  return tf_cpu.tensorflow().function(_jitter, jit_compile=True)


def _jitter(x, factors):
  """[n,S,S,3] float in [0,1], [n,4] -> [n,S,S,3] uint8."""
  tf = tf_cpu.tensorflow()
  brightness, contrast, saturation, hue = tf.unstack(
      factors[:, :, None, None, None], axis=1)           # [n,1,1,1] each
  unit = lambda x: tf.clip_by_value(x, 0.0, 1.0)
  x = unit(x + brightness)
  # Summed as integers, whose order does not matter: an image comes out the
  # same to the last bit however many others are with it.
  total = tf.reduce_sum(tf.cast(tf.round(x * 2.0**20), tf.int64), (1, 2),
                        keepdims=True)                   # [n,1,1,3]
  mean = tf.cast(total, tf.float32) / (2.0**20 * x.shape[1] * x.shape[2])
  x = unit((x - mean) * contrast + mean)
  h, s, v = tf.split(tf.image.rgb_to_hsv(x), 3, -1)
  x = tf.image.hsv_to_rgb(tf.concat(
      [tf.math.floormod(h + hue, 1.0), unit(s * saturation), v], -1))
  return tf.cast(unit(x) * 255.5, tf.uint8)              # truncates
