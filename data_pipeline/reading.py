"""Reads a file that a user names: a missing one is a line with its remedy."""

from data_pipeline import errors


def content(path, remedy):
  """The bytes of a file.

  Args:
    path: of the file. remedy: what to do where it cannot be opened.

  Raises:
    DataError: it cannot be opened or read.
  """
  try:
    with open(path, "rb") as file:
      return file.read()
  except OSError as error:
    raise errors.DataError(f"{path}: {error.strerror}; {remedy}") from None
