"""Files that are whole or not there."""

import pytest

from data_pipeline import errors, writing


def test_what_was_written_is_there_and_nothing_else(tmp_path):
  path = tmp_path / "new" / "folder" / "a.txt"
  writing.put(str(path), "one\n")
  writing.put(str(path), b"two\n")
  assert path.read_bytes() == b"two\n"
  assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("when", ["writing", "moving"])
def test_an_end_on_the_way_leaves_what_was(tmp_path, monkeypatch, when):
  path = tmp_path / "a.txt"
  writing.put(str(path), "old")

  def full(*_):
    raise OSError(28, "No space left on device")

  if when == "moving":
    monkeypatch.setattr(writing.os, "replace", full)
  with pytest.raises(errors.StorageError, match="a.txt: No space left"):
    with writing.replacing(str(path)) as part, open(part, "w") as file:
      file.write("new")
      if when == "writing":
        full()
  assert path.read_text() == "old"


def test_another_error_leaves_what_was_and_passes(tmp_path):
  path = tmp_path / "a.txt"
  writing.put(str(path), "old")
  with pytest.raises(KeyError), writing.replacing(str(path)):
    raise KeyError
  assert path.read_text() == "old"
