"""Small files that ask for gigabytes, for ever, for other folders or for code.

Each was crafted for what it does; the readers refuse it before it is done, in
a process that may take a gigabyte more than it has.
"""

import gzip
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from data_pipeline import (
  bench2drive,
  errors,
  frame_numbers,
  images,
  normalize,
  nuscenes,
  prepared,
  reading,
  schema,
)
from drivemoe_jax import stepfolders
from drivemoe_jax.evaluators.bench2drive import comfort
from drivemoe_jax.weights import files, plain_pickle
from tests.data_pipeline import fixtures, nuscenes_tree
from tests.fuzz import guard, readers_weights

HUGE = 1 << 40


@pytest.fixture
def watch(tmp_path):
  """Folder to read from; reading elsewhere or too much is an error."""
  case = tmp_path / "case"
  case.mkdir()
  (tmp_path / "outside").mkdir()
  (tmp_path / "outside" / "file").write_text("nobody's business")
  with guard.limited(), guard.watched(tmp_path, case):
    yield case


def refused(function, *args, match="", kind=errors.UserError):
  with pytest.raises(kind, match=match) as caught:
    function(*args)
  assert not guard.out_of_memory(caught.value)


def png(width, height):
  part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + (
      struct.pack(">I", zlib.crc32(kind + data)))
  return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(
      ">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + part(
          b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


@pytest.mark.parametrize("data, why", [
    (png(10_000, 10_000), "pixels are more"),
    (png(2**31 - 1, 2**31 - 1), "exceeds limit"),
    (fixtures.jpeg(0, 0).replace(b"\0\x12\0\x20", b"\xff\xff\xff\xff", 1),
     "exceeds limit"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
    (b"GIF89a\xff\xff\xff\xff\0\0\0", "cannot identify")],
    ids=["png", "huge_png", "jpeg", "eps", "gif"])
def test_a_picture_is_measured_before_it_is_made(watch, data, why):
  (watch / "a.jpg").write_bytes(data)
  refused(images.load, str(watch / "a.jpg"), 8, match=why)


def test_gzip_is_unpacked_to_a_limit(watch):
  path = watch / "a.json.gz"
  path.write_bytes(gzip.compress(bytes(reading.GZIP_BYTES + 1), 1))
  assert path.stat().st_size < 1 << 18
  refused(frame_numbers.read, str(path), "box", match="unpacks to more than")


@pytest.mark.parametrize("shape, descr, why", [
    ((HUGE,), "<f8", "has 8 bytes"), ((2**32, 2**32), "<f4", "has 8 bytes"),
    ((-1, -1), "<f8", "is not read"), ((1,), "|O", "is not read"),
    ((0, HUGE), "<f8", "has 8 bytes")])
def test_an_array_is_as_large_as_its_file_holds(watch, shape, descr, why):
  path = watch / "a.npz"
  with zipfile.ZipFile(path, "w") as archive:
    with archive.open("a.npy", "w") as file:
      np.lib.format.write_array_header_1_0(file, {
          "descr": descr, "fortran_order": False, "shape": shape})
      file.write(bytes(8))
  refused(reading.arrays, path, match=why, kind=ValueError)


def test_zeros_packed_a_thousandfold_are_not_unpacked(watch):
  path = watch / "a.npz"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    with archive.open("a.npy", "w") as file:
      for _ in range(reading.ARRAY_BYTES >> 24):
        file.write(bytes((1 << 24) + 8))
  assert path.stat().st_size < 1 << 20
  refused(reading.arrays, path, match="unpacks to", kind=ValueError)


@pytest.mark.parametrize("code, why", [
    (pickle.GLOBAL + b"os\nsystem\n" + pickle.STOP, "names os.system"),
    (pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff" + pickle.BINGET
     + b"\1" + pickle.STOP, "1"),
    (pickle.BINBYTES8 + HUGE.to_bytes(8, "little") + pickle.STOP, "expected"),
    (pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + (pickle.DUP + pickle.TUPLE2) * 80
     + pickle.NONE + pickle.SETITEM + pickle.STOP, "a key is a tuple"),
    (pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999 + pickle.NONE
     + pickle.BUILD, "state for a name"),
    (pickle.MARK + pickle.INST + b"os\ngetcwd\n", "needs no INST"),
    (pickle.FRAME + HUGE.to_bytes(8, "little"), "exhausted")],
    ids=["name", "notes", "bytes", "key", "state", "instance", "frame"])
def test_a_pickle_is_read_as_a_list(watch, code, why):
  with pytest.raises((ValueError, LookupError, TypeError), match=why) as caught:
    plain_pickle.load(pickle.PROTO + b"\2" + code, {}, None)
  assert not guard.out_of_memory(caught.value)


def test_the_header_of_weights_may_claim_what_it_likes(watch):
  path = watch / "x.safetensors"
  for start in (HUGE, 2**63, 100):
    path.write_bytes(start.to_bytes(8, "little") + b'{"a":{"dtype":"F32"')
    refused(files.open_file, str(path), match="no whole safetensors")


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("read", [
    lambda path: normalize.load(path, 10),
    lambda path: bench2drive.read_labels(path, 1, {}),
    comfort.read, files.read_json])
def test_json_as_deep_as_a_well_is_refused(watch, read):
  path = watch / "x.json"
  path.write_text(DEEP)
  refused(read, str(path), match="nested too deeply")


@pytest.mark.parametrize("name", [
    "../outside", "a/../../b", "/etc", "..", "", "a\0b", "a/b", "a\\b",
    "a\nb", "x" * 300, 3, None])
def test_a_name_leads_nowhere_else(name):
  assert not schema.name(name)
  assert schema.inside("drivemoe_frames/1.0.0/x-00000-of-00001")
  assert name == "a/b" or name == "a\\b" or not schema.inside(name)
  if isinstance(name, str):
    refused(bench2drive.parse_name, f"{name}/_Town_Route1_Weather0",
            match="no name of a folder")


def test_shards_elsewhere_are_not_opened(watch):
  route = {"name": fixtures.NAME.format(0), "split": "train", "first": 0,
           "frames": 1, "sha256": "", "version": "", "shard": "../outside/file"}
  (watch / prepared.MANIFEST).write_text(json.dumps({
      "format": 1, "options": {"size": 8, "encoding": "jpeg"}, "source": {},
      "skipped": {}, "files": {}, "routes": [route], "shards": [
          {"file": route["shard"], "split": "train", "records": 1, "bytes": 1,
           "sha256": ""}]}))
  refused(prepared.Shards, str(watch), match="'../outside/file', want")


def test_pictures_elsewhere_are_not_opened(tmp_path):
  root = nuscenes_tree.write(tmp_path / "case", pictures=8)
  path = tmp_path / "case" / "v1.0-test" / "sample_data.json"
  path.write_text(path.read_text().replace("samples/CAM_BACK/", "../outside/"))
  with guard.watched(tmp_path, tmp_path / "case"):
    refused(nuscenes.index, root, "v1.0-test", f"{root}/scenes",
            match="outside.*want a time")


def test_scenes_are_not_written_elsewhere(tmp_path):
  root = nuscenes_tree.write(tmp_path / "case", pictures=8,
                             place="../../outside/x")
  with guard.watched(tmp_path, tmp_path / "case"):
    refused(nuscenes.index, root, "v1.0-test", f"{root}/scenes",
            match="no name of a folder")


def test_a_list_of_files_is_looked_for_in_its_step_alone(watch):
  (watch / "meta").mkdir()
  (watch / stepfolders.META).write_text('{"format": 1, "listed": true}')
  (watch / stepfolders.LIST).write_text('{"../outside/file": 17}')
  assert "names '../outside/file'" in stepfolders.fault(str(watch))


def test_what_a_file_says_cannot_flood_or_steer_the_terminal():
  text = str(errors.DataError("a\x1b[31m\nb" + "x" * 10**6 + "; do this"))
  assert text.isprintable() and len(text) < 2000
  assert text.startswith("E-DATA: a\\x1b[31m\\nb") and text.endswith("do this")


def test_the_guard_sees_what_it_is_there_for(tmp_path):
  (tmp_path / "case").mkdir()
  with pytest.raises(guard.Violation, match="open"):
    with guard.watched(tmp_path, tmp_path / "case"):
      open(tmp_path / "x", "w", encoding="utf-8")
  with pytest.raises(guard.Violation, match="pickle.find_class"):
    with guard.watched(tmp_path, tmp_path / "case"):
      pickle.loads(readers_weights.HOSTILE[0] + pickle.STOP)
  with pytest.raises(MemoryError), guard.limited():
    np.ones(3 << 27)
