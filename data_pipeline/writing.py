"""Writes files that are whole or not there, whatever ends the writer."""

import contextlib
import fcntl
import os
import time

from data_pipeline import errors

PART = ".part"  # ends the name of a file that is being written
LOCK = ".lock"  # file of a folder that one process at a time fills


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
    with contextlib.suppress(OSError):
      os.remove(path + PART)  # a full disk needs the room
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


@contextlib.contextmanager
def alone(folder, doing, wait_s=0.0):
  """Holds a folder; the system lets go when the process ends.

  The file stays, for another process may have opened it, but empty: the
  finished folder has the same bytes wherever it was made. A file system that
  knows no locks holds nothing.

  Args:
    doing: what is done to the folder, for the message.
    wait_s: how long another one may take to end.

  Raises:
    ConfigError: another process holds it.
  """
  patience = time.monotonic() + wait_s
  with open(os.path.join(folder, LOCK), "a+", encoding="utf-8") as file:
    while True:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        if time.monotonic() > patience:
          file.seek(0)
          raise errors.ConfigError(
              f"{folder} is being {doing} by process {file.read() or '?'}; "
              "wait for it, or name another folder") from None
        time.sleep(0.2)
      except OSError:
        break
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    try:
      yield
    finally:
      file.truncate(0)
