"""Label files in the official format, and what is written beside them.

  camera_labels/<Route>.json, scenario_labels/<Route>.json
      {"0": "NULL", "1": ...}: one string per frame, in order, nothing else
  label_rules/<Route>.json
      version, constants and source of the labels, and the id of the rule
      that decided each frame; first written without the rules, to claim the
      two files, and anew when they are there

Axes: N frames.
"""

import dataclasses
import json
import os

from data_pipeline import errors, reading, spec, writing
from data_pipeline.labels import constants as consts

FOLDERS = {"camera": "camera_labels", "skill": "scenario_labels"}
RULES_FOLDER = "label_rules"
CLASS_OF_LABEL = {"camera": spec.CAMERA_OF_LABEL, "skill": spec.SKILL_OF_LABEL}


def path_of(folder, kind, route):
  """Path of a route's label file; kind is "camera", "skill" or "rules"."""
  return os.path.join(folder, FOLDERS.get(kind, RULES_FOLDER), f"{route}.json")


def header(frames, source, c):
  """What a side file says of how its labels came about."""
  return {"version": consts.VERSION, "frames": frames, "junctions": source,
          "constants": dataclasses.asdict(c)}


def write(folder, route, labels, c=consts.DEFAULTS):
  """Writes a route's two label files and its side file.

  Args:
    folder: of the three folders. labels: rules.Labels. c: its Constants.
  """
  made = header(len(labels.camera), labels.source, c)
  side = path_of(folder, "rules", route)
  writing.put(side, json.dumps(made) + "\n")
  for kind in FOLDERS:
    values = getattr(labels, kind)
    writing.put(path_of(folder, kind, route), json.dumps(
        {str(t): value for t, value in enumerate(values)}, indent=4))
  writing.put(side, json.dumps({
      **made, "camera": labels.camera_rule, "skill": labels.skill_rule})
      + "\n")


def is_written(folder, route, expected):
  """Are this route's labels there, of the same making?

  Args:
    expected: header of what would be written.

  Raises:
    DataError: there are labels of another making, or of unknown making.
  """
  there = [path_of(folder, kind, route) for kind in (*FOLDERS, "rules")
           if os.path.exists(path_of(folder, kind, route))]
  if not there:
    return False
  remedy = "choose another --out, or replace them with --overwrite"
  side = path_of(folder, "rules", route)
  if side not in there:
    raise errors.DataError(
        f"{there[0]} is not known to be this command's (no {side}); {remedy}")
  try:
    known = reading.json_file(side, remedy)
    differ = [f"{key} {known[key]} there, {value} now"
              for key, value in expected.items() if known[key] != value]
    complete = set(FOLDERS) <= set(known)
  except errors.DataError:
    raise
  except (KeyError, TypeError) as error:
    raise errors.DataError(
        f"{side} cannot be read ({error!r}); {remedy}") from None
  if differ:
    raise errors.DataError(f"{side}: other labels ({differ[0]}); {remedy}")
  return complete and len(there) == len(FOLDERS) + 1


def read(folder, kind, route):
  """Returns the label strings [N] of one file, whoever wrote it.

  Raises:
    DataError: missing or broken, or a label that is not known.
  """
  path = path_of(folder, kind, route)
  remedy = "fetch or generate it again"
  labels = reading.json_file(path, remedy)
  if not isinstance(labels, dict) or not labels:
    raise errors.DataError(f"{path} is no object of labels; {remedy}")
  values = []
  for t in range(len(labels)):
    if str(t) not in labels:
      raise errors.DataError(
          f"{path} has {len(labels)} labels but none for frame {t}; {remedy}")
    values.append(labels[str(t)])
    if (not isinstance(values[-1], str)
        or values[-1] not in CLASS_OF_LABEL[kind]):
      raise errors.DataError(
          f"{path}: unknown label {values[-1]!r} at frame {t}; known: "
          f"{', '.join(CLASS_OF_LABEL[kind])}; correct the file")
  return values
