"""Writes files that are whole or not there, whatever ends the writer."""

import contextlib
import os

from data_pipeline import errors

PART = ".part"  # ends the name of a file that is being written


@contextlib.contextmanager
def replacing(path):
  """Gives the name to write to; what was written takes `path` at the end.

  Raises:
    StorageError: the place is missing, read-only or full.
  """
  try:
    yield path + PART
    os.replace(path + PART, path)
  except OSError as error:
    raise errors.StorageError(
        f"{path}: {error.strerror or error}; make room, or choose a place that "
        "can be written, and run again") from None


def put(path, content):
  """Writes text or bytes; folders are made. Errors as in `replacing`."""
  data = content if isinstance(content, bytes) else content.encode()
  with replacing(path) as part:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(part, "wb") as file:
      file.write(data)
