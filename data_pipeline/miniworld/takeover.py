"""Routes of one recording in another, which stands alone all the same.

Files are linked, not copied, where the file system can: nobody writes into a
route that is whole.
"""

import os
import shutil

from data_pipeline import errors, reading, writing


def finished(base, plan):
  """(plan, summary) of the recording in `base`.

  Args:
    plan: of the recording that takes it over.

  Raises:
    DataError: no finished recording is there.
    ConfigError: it has some of the plan's seeds, or is of another format.
  """
  path = os.path.join(base, "dataset.json")
  found = reading.json_file(path, "name a recording's folder")
  try:
    there, summary = found["plan"], found["summary"]
    both = _seeds(there) & _seeds(plan)
    known = there["format"]
  except (KeyError, TypeError, AttributeError) as error:
    raise errors.DataError(
        f"{path} is of no recording ({type(error).__name__}: {error}); name a "
        "recording's folder") from None
  if not summary:
    raise errors.DataError(f"{path}: that recording is not finished; start it "
                           "again first")
  if both:
    raise errors.ConfigError(
        f"{base} has seeds {min(both)} to {max(both)} already; take others")
  if known != plan["format"]:
    raise errors.ConfigError(f"{path} has format {known}, this is "
                             f"{plan['format']}; record it anew")
  return there, summary


def _seeds(plan):
  """Those of a plan, and of all that it has taken over."""
  older = plan.get("base")
  return {*plan["seeds"], *plan["val_seeds"]} | (
      _seeds(older) if older else set())


def route(base, out_dir, name, labels):
  """Puts a whole route and its labels into another recording's folder.

  Args:
    labels: folders that have a file NAME.json each.
  """
  final = os.path.join(out_dir, "routes", name)
  part = os.path.join(out_dir, f".part_{name}")
  for leftover in (part, final):
    shutil.rmtree(leftover, ignore_errors=True)
  for kind in labels:
    target = os.path.join(out_dir, kind, name + ".json")
    writing.put(target, reading.content(
        os.path.join(base, kind, name + ".json"), "record it anew"))
  shutil.copytree(os.path.join(base, "routes", name), part,
                  copy_function=_link)
  os.replace(part, final)


def _link(source, target):
  try:
    os.link(source, target)
  except OSError:  # another file system, or one without links
    shutil.copy2(source, target)
