"""The raw files of a comparison: one JSON object per finished row.

  WORKDIR/rows/<row>.json

A file that exists is whole, and says under which settings it was made. Rows of
other settings are refused, since a table of them would compare nothing.
"""

import hashlib
import json
import os

from data_pipeline import errors, reading, writing
from drivemoe_jax.evaluators.ablation import variants

FORMAT = 1
REMEDY = "move it away and run the row again"


def path(workdir, name):
  """Where a row's raw file is, or will be."""
  return os.path.join(workdir, "rows", f"{name}.json")


def read(workdir, name):
  """The raw row, or None if it is not finished.

  Raises:
    DataError: a file that is no row.
  """
  file = path(workdir, name)
  if not os.path.exists(file):
    return None
  row = reading.json_file(file, REMEDY)
  if not isinstance(row, dict) or row.get("format") != FORMAT or (
      row.get("row") != name) or not isinstance(row.get("settings"), dict) or (
          "updates" not in row):
    raise errors.DataError(f"{file} is no raw row {name} of format {FORMAT}; "
                           f"{REMEDY}")
  return row


def read_all(workdir):
  """{name: raw row} of all finished ones, all of the same settings.

  Raises:
    DataError: none, or two that were made under different settings.
  """
  names = [row.name for row in variants.rows()]
  found = {name: row for name in names if (row := read(workdir, name))}
  if not found:
    raise errors.DataError(f"{os.path.join(workdir, 'rows')} holds no finished "
                           "row; run some before a page is made of them")
  first, *others = found
  for name in others:
    check(path(workdir, name), made_under(found[name]),
          made_under(found[first]), f"in {first}")
  return found


def made_under(row):
  """Under which settings a row was made; a measured budget in numbers."""
  return row["settings"] | {"updates": row["updates"]}


def check(file, known, settings, where="asked"):
  """Refuses what was made under other settings, both dicts.

  Raises:
    DataError: names the settings that differ, with both values.
  """
  differ = [f"{key} {known.get(key)!r:.40} there, {settings.get(key)!r:.40} "
            f"{where}" for key in sorted({*known, *settings})
            if known.get(key) != settings.get(key)]
  if differ:
    raise errors.DataError(
        f"{file} was made under other settings ({'; '.join(differ)}); use "
        "another --workdir, or ask for those")


def write(workdir, name, row):
  """Writes a finished row, whole or not at all.

  Raises:
    StorageError: the disk is full or cannot be written.
  """
  file = path(workdir, name)
  writing.put(file, json.dumps({"format": FORMAT, "row": name, **row},
                       allow_nan=False, separators=(",", ":")) + "\n")


def sha256(file):
  """Of a file's bytes, in hex."""
  with open(file, "rb") as source:
    return hashlib.sha256(source.read()).hexdigest()


def digest(value):
  """SHA-256 of a JSON value, whatever the order of its keys."""
  return hashlib.sha256(
      json.dumps(value, sort_keys=True).encode()).hexdigest()
