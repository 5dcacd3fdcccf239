"""A file that a user names is read, or refused with its path and remedy."""

import pytest

from data_pipeline import errors, reading


def test_bytes_come_as_they_are(tmp_path):
  path = tmp_path / "file"
  path.write_bytes(b"\xff\r\n")
  assert reading.content(str(path), "look again") == b"\xff\r\n"


@pytest.mark.parametrize("name, why", [
    ("absent", "No such file"), ("", "Is a directory")])
def test_what_cannot_be_read_is_told_with_the_remedy(tmp_path, name, why):
  path = str(tmp_path / name)
  with pytest.raises(errors.DataError) as caught:
    reading.content(path, "look again")
  assert str(caught.value).startswith(f"E-DATA: {path}: {why}")
  assert str(caught.value).endswith("; look again")
