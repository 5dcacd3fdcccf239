"""Messages round trip, and what is no message is refused whatever it is."""

import pickle

import msgpack
import numpy as np
import pytest

from data_pipeline import errors, wire

MESSAGE = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
           "proprio": np.float32([[1.5, -2.0]]), "step": 7, "augment": False,
           "names": [["rgb_front", 0], ["rgb_front", 1]], "none": None,
           "empty": np.zeros((0, 2), np.int64), "one": np.float32(2.5)}


def test_messages_round_trip():
  got = wire.unpack(wire.pack(MESSAGE))
  assert list(got) == list(MESSAGE)
  for key, value in MESSAGE.items():
    if isinstance(value, np.ndarray):
      assert got[key].dtype == value.dtype
      np.testing.assert_array_equal(got[key], value)
    else:
      assert got[key] == value and type(got[key]) is type(value)


def test_arrays_are_written_in_openpi_s_way():
  raw = msgpack.unpackb(wire.pack({"x": np.float32([[1, 2]])}))
  assert raw == {"x": {b"__ndarray__": True, b"dtype": "<f4",
                       b"shape": [1, 2],
                       b"data": np.float32([1, 2]).tobytes()}}


@pytest.mark.parametrize("value", [
    np.array([object()]), np.array(["text"]), np.complex64(1), object(), {1}])
def test_only_numbers_can_be_sent(value):
  with pytest.raises(TypeError, match="cannot be sent"):
    wire.pack({"x": value})


def array(**changes):
  return msgpack.packb({"x": {
      b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4",
      b"shape": [2], **{k.encode(): v for k, v in changes.items()}}})


WHOLE = wire.pack(MESSAGE)
BOMB = b"\x91" * 100_000 + b"\xc0"      # lists in lists
HOSTILE = {
    "nothing": b"", "cut short": WHOLE[:-1], "cut in the middle": WHOLE[:40],
    "two messages": WHOLE + WHOLE, "random": np.random.default_rng(0).bytes(99),
    "pickled": pickle.dumps({"x": np.ones(3)}), "nested": BOMB,
    "many maps": b"\xdd\x00\x01\x00\x00" + b"\x80" * 2**16,
    "deep fan": b"\xdc\x03\xe8" + (b"\xdc\x03\xe8" + b"\x80" * 1000) * 1000,
    "huge claim": b"\xdd\xff\xff\xff\xff", "ext type": b"\xc7\x01\x05\x00",
    "int keys": msgpack.packb({1: 2}), "not utf-8": b"\xa2\xff\xfe",
    "object dtype": array(dtype="|O"), "string dtype": array(dtype="<U2"),
    "long dtype": array(dtype="f4,f4,f4,f4"), "dtype bytes": array(dtype=b"x"),
    "no dtype": array(dtype=None), "unknown dtype": array(dtype="<x9"),
    "wrong size": array(shape=[3]), "negative": array(shape=[-1]),
    "huge shape": array(shape=[2**40, 2**40]), "float shape": array(shape=[2.]),
    "shape number": array(shape=2), "odd bytes": array(data=b"\0" * 7),
    "text data": array(data="text"), "no data": array(data=None)}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_message_is_refused(name):
  with pytest.raises(errors.DataError, match=r"is no msgpack with arrays"):
    wire.unpack(HOSTILE[name])


def test_keys_come_from_the_first_line(tmp_path):
  file = tmp_path / "key"
  file.write_text(" abc \nmore\n")
  assert wire.read_key(file) == "abc"
  file.write_text("\nabc")
  for path, text in ((file, "empty"), (tmp_path / "gone", "No such file")):
    with pytest.raises(errors.ConfigError, match=text):
      wire.read_key(path)
