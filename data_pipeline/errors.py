"""Errors a user can cause: one line, a code, an exit status.

Every message starts with its code (`E-DATA: ...`), names the file or the two
values that collided, and ends with the remedy. `launch.cli.main` prints the
line and exits with `status`; library callers catch them as ValueError.
"""


LONGEST = 1500  # characters of a message, whatever it quotes from a file


class UserError(ValueError):
  """Base class. `code` leads the message, `status` is the exit status."""

  code = "E-USER"
  status = 1

  def __init__(self, message):
    super().__init__(plain(message))

  def __str__(self):
    return f"{self.code}: {self.args[0]}"


def plain(text):
  """The text as one printable line; the middle of a long one is left out.

  What a broken file says stands in messages, and must not fill the screen or
  speak to the terminal.
  """
  text = str(text)
  if len(text) > LONGEST:
    text = text[:LONGEST // 2] + " ... " + text[-LONGEST // 2:]
  return text if text.isprintable() else "".join(
      c if c.isprintable() else c.encode("unicode_escape").decode()
      for c in text)


def differing(there, here):
  """"key 1 there, 2 here; ..." of two dicts; "" where they are the same."""
  return "; ".join(f"{key} {there.get(key)!r} there, {here.get(key)!r} here"
                   for key in sorted({*there, *here})
                   if there.get(key) != here.get(key))


class ConfigError(UserError):
  """A configuration or a command line that cannot be run."""

  code, status = "E-CONFIG", 2


class InstallError(ConfigError):
  """Packages that are missing or do not belong together."""

  code = "E-INSTALL"


class MeshError(ConfigError):
  """Batch, mesh and parameter sizes that do not divide each other."""

  code = "E-MESH"


class HbmError(ConfigError):
  """A run that needs more memory than its chips have."""

  code = "E-HBM"


class DataError(UserError):
  """A recorded file that is missing, broken or of another meaning."""

  code, status = "E-DATA", 3


class CheckpointError(UserError):
  """A checkpoint or weight file that does not fit this run."""

  code, status = "E-CKPT", 4


class StorageError(UserError):
  """A disk that is full or cannot be written."""

  code, status = "E-DISK", 4


class SaveError(StorageError):
  """A checkpoint that could not be written, in as many tries as there are."""

  code = "E-SAVE"


class ResumeError(CheckpointError):
  """A working directory that belongs to another run."""

  code = "E-RESUME"


class NumericsError(UserError):
  """Training left the finite numbers."""

  code, status = "E-NAN", 5


class PeerError(UserError):
  """Another host of the run that did not come, left, or differs."""

  code, status = "E-PEER", 6
