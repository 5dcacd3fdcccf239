"""Records: round trip, one encoding, the shape that TensorFlow knows."""

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from data_pipeline import bench2drive, images, records

RECORD = {"b": b"", "a": b"x" * 127, "long": bytes(range(256)) * 300,
          "route": "Größe".encode()}


def test_decoding_inverts_encoding():
  found = records.decode(records.encode(RECORD))
  assert {key: bytes(value) for key, value in found.items()} == RECORD


def test_the_encoding_does_not_depend_on_the_order_of_keys():
  backwards = dict(reversed(RECORD.items()))
  assert records.encode(RECORD) == records.encode(backwards)


def test_a_record_is_a_tensorflow_example():
  example = tf_example_pb2.Example.FromString(records.encode(RECORD))
  features = example.features.feature
  assert {key: features[key].bytes_list.value[:] for key in features} == {
      key: [value] for key, value in RECORD.items()}
  again = records.decode(example.SerializeToString())
  assert {key: bytes(value) for key, value in again.items()} == RECORD


@pytest.mark.parametrize("spoil", [
    lambda data: data[:-1], lambda data: b"\x08" + data[1:],
    lambda data: data[:1] + b"\xff" * 12, lambda data: b"", lambda data: b"\n"])
def test_other_bytes_are_refused(spoil):
  with pytest.raises(ValueError):
    records.decode(spoil(records.encode(RECORD)))


def route(frames=3, labels=True):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal((frames, *shape))
  ids = np.arange(frames, dtype=np.int32) if labels else None
  return bench2drive.Route("A_Town01_Route1_Weather0", draw(2), draw(),
                           draw(), draw(3), draw(3), draw(2), ids, ids)


def test_numbers_come_back_bit_by_bit():
  of = route()
  coded = {camera: camera.encode() for camera in records.IMAGES}
  for t in range(len(of)):
    record = records.decode(records.encode(records.of_route(of, t, coded)))
    for key in (*records.NUMBERS, *records.LABELS):
      got = records.number(record, key)
      np.testing.assert_array_equal(got, getattr(of, key)[t])
      assert got.shape == records.FIELDS[key].shape
      assert got.dtype == records.FIELDS[key].dtype
    assert records.number(record, "frame") == t
    assert bytes(record["rgb_back"]) == b"rgb_back"
  bare = records.of_route(route(labels=False), 0, coded)
  assert records.number(bare, "camera") == records.UNLABELLED


def test_png_keeps_every_pixel_and_jpeg_almost():
  y, x = np.mgrid[:16, :16]
  pixels = np.stack([8 * x, 8 * y, 4 * (x + y)], -1).astype(np.uint8)
  png, jpeg = (images.decode(records.encode_image(pixels, encoding), 16)
               for encoding in ("png", "jpeg"))
  np.testing.assert_array_equal(png, pixels)
  assert np.abs(jpeg.astype(int) - pixels).mean() < 2
