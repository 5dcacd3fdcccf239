"""Writes the page of a comparison, its figure and copies of the raw files."""

import io
import os

from data_pipeline import errors, reading, writing
from drivemoe_jax.evaluators.ablation import page as words
from drivemoe_jax.evaluators.ablation import store
from drivemoe_jax.report import modes


def write(workdir, target):
  """Makes TARGET.md, TARGET/<row>.json and TARGET/modes.png.

  Returns:
    a line about what was written.

  Raises:
    ConfigError: the target is no .md, or a page of somebody else's.
    DataError: there is no finished row, or rows of different settings.
  """
  folder, suffix = os.path.splitext(target)
  if suffix != ".md":
    raise errors.ConfigError(f"--page {target}: name a file that ends with .md")
  if os.path.exists(target) and not reading.content(
      target, "name another page").decode(errors="replace").startswith(
          words.MARK):
    raise errors.ConfigError(f"{target} was not written by this command; name "
                             "another --page, or move it away")
  rows = store.read_all(workdir)
  hashes = {}
  for name in rows:
    source = store.path(workdir, name)
    writing.put(os.path.join(folder, f"{name}.json"),
                reading.content(source, "run the row again").decode())
    hashes[name] = store.sha256(os.path.join(folder, f"{name}.json"))
  picture = io.BytesIO()
  modes.plot(rows, picture)
  writing.put(os.path.join(folder, "modes.png"), picture.getvalue())
  command = f"python -m launch.ablate --workdir {_shown(workdir)} --page " + (
      _shown(target))
  writing.put(target, words.text(rows, hashes, command,
                                 os.path.basename(folder)))
  return f"{target}: {len(rows)} rows"


def _shown(path):
  """A path as it may stand on a page: nobody else has this machine's."""
  return os.path.basename(os.path.normpath(path)) if os.path.isabs(path) else (
      path)
