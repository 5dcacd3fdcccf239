"""Agreement of two label folders: ours against the official ones, say.

Labels are compared by class, as training sees them: NULL and CAM_BACK are one.
Axes: M frames, C classes.
"""

import collections
import dataclasses
import os
import statistics

import numpy as np

from data_pipeline import bench2drive, errors, spec
from data_pipeline.labels import constants as consts
from data_pipeline.labels import files

CLASSES = {"camera": spec.Camera, "skill": spec.Skill}
# The class of a frame that asks for nothing: its stretches are no runs.
IDLE = {"camera": spec.Camera.BACK, "skill": spec.Skill.NORMAL}
DEFINITIONS = {
    "confusion": "rows are the reference's classes, columns ours",
    "macro_f1": "mean F1 over the classes that either side uses",
    "kappa": "Cohen's, unweighted; null if both sides know one class only",
    "runs": "stretches of one class; a run of the reference is matched to our "
            "run of its class that overlaps it most",
    "onset, offset": "our first or last frame minus the reference's, over "
                     "matched runs; a frame is 0.1 s",
}


@dataclasses.dataclass(frozen=True)
class Pair:
  """Class ids [N] of one route on both sides."""

  route: str
  kind: str
  reference: np.ndarray
  ours: np.ndarray


def compare(folder, reference, *, routes=None):
  """Compares the label files of a folder with those of a reference folder.

  Args:
    folder, reference: folders of camera_labels/ and scenario_labels/.
    routes: names to compare; by default all that `folder` has.

  Returns:
    {camera, skill: report or None where the reference has no such files,
    frames, routes, missing {camera, skill: routes without a reference},
    definitions}; a report holds accuracy, macro_f1, kappa, confusion, classes,
    edges, per_type {type: the same} and worst (routes).

  Raises:
    DataError: no file in common, a broken file, or another number of labels.
  """
  result, frames = {}, collections.Counter()
  missing = {}
  for kind in files.FOLDERS:
    names = routes or _routes(folder, kind)
    there = set(_routes(reference, kind))
    pairs = [_pair(folder, reference, kind, name)
             for name in names if name in there]
    frames.update({pair.route: len(pair.ours) for pair in pairs
                   if pair.route not in frames})
    missing[kind] = [name for name in names if name not in there]
    result[kind] = _report(pairs, CLASSES[kind], IDLE[kind]) if pairs else None
  if not frames:
    raise errors.DataError(
        f"{reference} has no label file for any route of {folder}; it must "
        f"hold {' and '.join(files.FOLDERS.values())}, or one of them")
  return {**result, "frames": sum(frames.values()), "routes": len(frames),
          "missing": missing, "definitions": DEFINITIONS}


def _routes(folder, kind):
  path = os.path.join(folder, files.FOLDERS[kind])
  names = os.listdir(path) if os.path.isdir(path) else []
  return sorted(name.removesuffix(".json") for name in names
                if name.endswith(".json") and not name.startswith("."))


def _pair(folder, reference, kind, name):
  table = files.CLASS_OF_LABEL[kind]
  ours, theirs = ([table[label] for label in files.read(side, kind, name)]
                  for side in (folder, reference))
  if len(ours) != len(theirs):
    raise bench2drive.MisalignedError(
        f"{files.path_of(reference, kind, name)} labels {len(theirs)} frames, "
        f"{files.path_of(folder, kind, name)} {len(ours)}; they are of "
        "different recordings: fetch the route and its labels together")
  return Pair(name, consts.parse_name(name)[0],
              np.array(theirs), np.array(ours))


def _report(pairs, classes, idle):
  """The report of one kind of label."""
  by_type = collections.defaultdict(list)
  for pair in pairs:
    by_type[pair.kind].append(pair)
  accuracy = {pair.route: float(np.mean(pair.ours == pair.reference))
              for pair in pairs}
  worst = sorted(accuracy, key=accuracy.get)[:10]  # pyright: ignore[reportCallIssue]
  return {
      **_agreement(pairs, classes, idle),
      "per_type": {kind: _agreement(of_type, classes, idle)
                   for kind, of_type in sorted(by_type.items())},
      "worst": [{"route": name, "accuracy": accuracy[name]} for name in worst
                if accuracy[name] < 1.0]}


def _agreement(pairs, classes, idle):
  matrix = np.zeros((len(classes), len(classes)), np.int64)      # [C,C]
  for pair in pairs:
    np.add.at(matrix, (pair.reference, pair.ours), 1)
  return {**agreement(matrix, [c.name for c in classes]),
          "edges": _edges(pairs, classes, idle)}


def agreement(matrix, names):
  """{accuracy, macro_f1, kappa, confusion, classes} of a confusion matrix.

  Args:
    matrix: counts [C,C], rows the reference. names: of the classes.
  """
  matrix = np.asarray(matrix)
  total, hit = matrix.sum(), matrix.diagonal()
  support, chosen = matrix.sum(1), matrix.sum(0)                 # [C]
  used = support + chosen > 0
  ratio = lambda part, whole: np.divide(
      part, whole, out=np.zeros(len(part)), where=whole > 0)
  scores = {"precision": ratio(hit, chosen), "recall": ratio(hit, support),
            "f1": ratio(2 * hit, support + chosen)}
  observed = hit.sum() / total
  chance = float((support / total) @ (chosen / total))
  return {
      "accuracy": float(observed),
      "macro_f1": float(scores["f1"][used].mean()),
      "kappa": (float((observed - chance) / (1 - chance)) if chance < 1.0
                else None),
      "confusion": matrix.tolist(),
      "classes": [
          {"name": name, "support": int(support[i]),
           **{key: float(score[i]) for key, score in scores.items()}}
          for i, name in enumerate(names)]}


def runs(ids, idle):
  """[(class id, first, last)] of the stretches that are not idle."""
  starts = np.flatnonzero(np.diff(ids, prepend=-1))
  ends = np.append(starts[1:], len(ids)) - 1
  return [(int(ids[a]), int(a), int(b)) for a, b in zip(starts, ends)
          if ids[a] != idle]


def _edges(pairs, classes, idle):
  """{class name: {runs, matched, extra, onset, offset}} of the used ones."""
  found = collections.defaultdict(lambda: {
      "runs": 0, "matched": 0, "extra": 0, "onset": [], "offset": []})
  for pair in pairs:
    ours, used = runs(pair.ours, idle), set()
    for label, first, last in runs(pair.reference, idle):
      entry = found[classes(label).name]
      entry["runs"] += 1
      best = _overlapping(ours, label, first, last)
      if best is not None:
        used.add(best)
        entry["matched"] += 1
        entry["onset"].append(ours[best][1] - first)
        entry["offset"].append(ours[best][2] - last)
    for i, (label, _, _) in enumerate(ours):
      if i not in used:
        found[classes(label).name]["extra"] += 1
  return {name: {**entry, "onset": _summary(entry["onset"]),
                 "offset": _summary(entry["offset"])}
          for name, entry in sorted(found.items())}


def _overlapping(candidates, label, first, last):
  """Index of the run of this class that overlaps most, the first of equals."""
  overlap = [min(last, b) - max(first, a) + 1 if own == label else 0
             for own, a, b in candidates]
  best = max(range(len(candidates)), key=overlap.__getitem__, default=None)
  return best if best is not None and overlap[best] > 0 else None


def _summary(values):
  """{median, mean_abs} in frames, None where there are no values."""
  if not values:
    return {"median": None, "mean_abs": None}
  return {"median": statistics.median(values),
          "mean_abs": statistics.fmean(map(abs, values))}
