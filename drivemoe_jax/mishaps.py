"""What goes wrong around a run, told in one line: its disk, its devices.

The state on disk is good whatever happens here, so that each line ends with
what to change before the same command is started again.
"""

import contextlib
import errno
import os

import jax

from data_pipeline import errors

# A disk that is full, read-only, gone, not ours or broken.
STORAGE = frozenset((
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOENT,
    errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENODEV, errno.ESTALE,
    errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTCONN))
REPORT = "device_memory.txt"


@contextlib.contextmanager
def told(workdir, config):
  """A run in this folder, whose mishaps become errors of a line.

  Raises:
    StorageError: the folder, or another file of the run, cannot be used.
    HbmError: a device has too little memory; the compiler's report is in the
      folder, if it can be written.
  """
  try:
    yield
  except OSError as error:
    if error.errno not in STORAGE:
      raise
    raise errors.StorageError(
        f"{error.filename or workdir}: {error.strerror}; free space there or "
        "make it writable, and start the same command again: it goes on from "
        "the last checkpoint") from error
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    first = str(error).splitlines()[0][:200]
    raise errors.HbmError(
        f"a device has too little memory ({first}){_report(workdir, error)}. "
        f"Lower per_device_batch (now {config.per_device_batch}), set "
        f"model.remat=full (now {config.model.remat}) or raise mesh.fsdp; "
        "launch.plan tells by how much") from error


def _report(workdir, error):
  """Writes all that the compiler says; where, in words."""
  path = os.path.join(workdir, REPORT)
  try:
    with open(path, "w", encoding="utf-8") as file:
      file.write(str(error))
  except OSError:
    return ""
  return f", all of it in {path}"
