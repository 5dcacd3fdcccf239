"""PyTorch files without torch: what is in them; nothing in them ever runs."""

import collections
import io
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.weights import read, torch_file, write
from tests.weights import trees


@pytest.fixture(scope="module")
def weights():
  return trees.random_weights(trees.shapes(trees.ODD | trees.PI0))


@pytest.fixture
def whole(weights, tmp_path):
  return pathlib.Path(write.write(str(tmp_path / "whole.pt"), weights))


def rewrite(path, change):
  """A copy of a .pt whose members went through change(name, bytes)."""
  other = path.with_name("other.pt")
  with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
    for member in old.infolist():
      content = change(member.filename, old.read(member))
      if content is not None:
        new.writestr(member.filename, content)
  return str(other)


def with_pickle(path, content):
  return rewrite(path, lambda name, old: content if name.endswith(
      "data.pkl") else old)


class Touch:
  """Pickles as a call that leaves a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [
    lambda x: x, lambda x: {"model": x}, lambda x: {"model": {"a.weight": x}},
    lambda x: {"model": collections.OrderedDict(a=x)}, lambda x: [x]])
def test_code_in_a_pickle_never_runs(whole, tmp_path, protocol, wrap):
  ran = tmp_path / "ran"
  path = with_pickle(whole, pickle.dumps(wrap(Touch(ran)), protocol))
  with pytest.raises(errors.CheckpointError, match="nothing of it was run"):
    read.scan(path)
  assert not ran.exists()


@pytest.mark.parametrize("program", [
    b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.",
    b"(S'true'\nios\nsystem\n.", b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    # What is known may not be changed for later readers either.
    b"ctorch._utils\n_rebuild_tensor_v2\n}S'_function'\nI1\nsb.",
    b"ctorch\nFloatStorage\n}S'a'\nI1\nsb.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(tR.", b"\x80\x02Q.", b"", b"\xff"])
def test_hand_made_pickles_are_refused(whole, program):
  with pytest.raises(errors.CheckpointError, match="plain tensors|no 'model'"):
    read.scan(with_pickle(whole, program))
  assert read.scan(str(whole)).params


def entries(**tensors):
  return [((key,), array.shape, lambda a=array: [a.tobytes()])
          for key, array in tensors.items()]


def test_plain_values_come_back(tmp_path):
  path = tmp_path / "x.pt"
  envelope = {"a": 3, "b": None, "c": "text", "d": 2 ** 40, "e": -7,
              "f": True, "g": {"h": 1}, "model": None}
  torch_file.write(path, envelope, entries(x=np.zeros((2, 3), "f4")), "F32")
  with zipfile.ZipFile(path) as archive:
    found = torch_file.read(str(path), archive)
    assert all(archive.getinfo(m).compress_type == zipfile.ZIP_STORED
               for m in archive.namelist())
  place = found.pop("model")["x"]
  assert found == {k: v for k, v in envelope.items() if k != "model"}
  assert (place.code, place.shape) == ("F32", (2, 3))
  assert place.offset % 64 == 0  # as torch maps them


def test_a_tensor_lies_where_it_is_said_to(tmp_path):
  path = tmp_path / "x.pt"
  x, y = np.arange(6, dtype="f4").reshape(2, 3), np.arange(4, dtype="f4")
  torch_file.write(path, {"model": None}, entries(x=x, y=y), "F32")
  with zipfile.ZipFile(path) as archive:
    model = torch_file.read(str(path), archive)["model"]
  for key, array in {"x": x, "y": y}.items():
    found = np.fromfile(path, "f4", array.size, offset=model[key].offset)
    np.testing.assert_array_equal(found.reshape(array.shape), array)


def test_broken_files_are_told(whole):
  whole_bytes = whole.read_bytes()
  for cut in (50, len(whole_bytes) // 2, len(whole_bytes) - 30):
    whole.with_name("cut.pt").write_bytes(whole_bytes[:-cut])
    with pytest.raises(errors.CheckpointError, match="cut.pt"):
      read.scan(str(whole.with_name("cut.pt")))
  for drop, told in (("data.pkl", "no data.pkl"), ("data/3", "plain tensors")):
    with pytest.raises(errors.CheckpointError, match=told):
      read.scan(rewrite(whole, lambda name, old, drop=drop: None if
                        name.endswith(drop) else old))
  short = rewrite(whole, lambda name, old: old[:-4] if name.endswith(
      "data/3") else old)
  with pytest.raises(errors.CheckpointError, match="bytes for"):
    read.scan(short)
  big = rewrite(whole, lambda name, old: b"big" if name.endswith(
      "byteorder") else old)
  with pytest.raises(errors.CheckpointError, match="big-endian"):
    read.scan(big)


def test_torch_reads_ours_and_we_read_torchs(whole, weights, tmp_path):
  torch = pytest.importorskip("torch")
  for kwargs in (dict(), dict(mmap=True)):
    loaded = torch.load(whole, weights_only=True, **kwargs)
    assert list(loaded) == ["cnt_update", "cnt_batch", "model", "wandb_id"]
  module = torch.nn.Linear(2, 3)
  torch.save({"model": {"_orig_mod." + k: v for k, v in
                        loaded["model"].items()}}, tmp_path / "theirs.pt")
  ours, theirs = (read.scan(str(p)) for p in (whole, tmp_path / "theirs.pt"))
  for path, leaf in ours.params.items():
    np.testing.assert_array_equal(np.asarray(leaf),
                                  np.asarray(theirs.params[path]))
  # A state dict carries attributes, parameters a wrapper of their own.
  torch.save({"model": module.state_dict(), "p": module.weight},
             tmp_path / "module.pt")
  with zipfile.ZipFile(tmp_path / "module.pt") as archive:
    found = torch_file.read(str(tmp_path / "module.pt"), archive)
  assert found["model"]["bias"].shape == (3,) and found["p"].shape == (3, 2)
  torch.save({"model": {"w": module.weight.data.T}}, tmp_path / "strided.pt")
  with pytest.raises(errors.CheckpointError, match="contiguous"):
    read.scan(str(tmp_path / "strided.pt"))
  old = io.BytesIO()
  torch.save({"model": {}}, old, _use_new_zipfile_serialization=False)
  (tmp_path / "old.pt").write_bytes(old.getvalue())
  with pytest.raises(errors.CheckpointError, match="before 1.6"):
    read.scan(str(tmp_path / "old.pt"))
