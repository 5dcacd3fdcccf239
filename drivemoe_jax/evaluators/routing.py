"""Router choices against labels: the classification report, in numpy.

Class ids are always explicit, so a class that the evaluated windows lack keeps
its row; the two macro means say which classes they average over.
Axes: M samples, C classes.
"""

import numpy as np

CAMERA_NAMES = ("Front Left", "Front Right", "Back", "Back Left", "Back Right")
SKILL_NAMES = ("Merging", "Parking Exit", "Overtaking", "Emergency Brake",
               "Giveway", "Traffic Sign", "Normal")

DEFINITIONS = {
    "confusion": "rows are labels, columns the router's choices",
    "macro_f1": "mean F1 over the classes that have labels here (support > 0)",
    "official_macro_f1": "mean F1 over all classes; an absent one counts 0",
    "weighted_f1": "mean F1 weighted by support",
    "f1": "0 where a class is neither labelled nor chosen, as sklearn's "
          "zero_division=0",
}


def class_names(names, count):
  """Names for `count` classes: the known ones first, numbers beyond."""
  return (*names, *(f"Class {i}" for i in range(len(names), count)))


def confusion_matrix(labels, choices, num_classes):
  """Counts of (label, choice): [M] and [M] ids -> [C,C]."""
  labels, choices = np.asarray(labels), np.asarray(choices)
  for name, ids in (("label", labels), ("choice", choices)):
    if len(ids) and not (0 <= ids.min() and ids.max() < num_classes):
      raise ValueError(f"{name} ids span {ids.min()}..{ids.max()}, classes are "
                       f"0..{num_classes - 1}")
  matrix = np.zeros((num_classes, num_classes), np.int64)
  np.add.at(matrix, (labels, choices), 1)
  return matrix


def report(labels, choices, names):
  """Per-class and averaged precision, recall and F1.

  Args:
    labels, choices: [M] class ids.
    names: C class names in id order.

  Returns:
    {n, accuracy, macro_f1, official_macro_f1, weighted_f1 (and the same three
    means of precision and recall), classes[]{name, precision, recall, f1,
    support}, confusion [C,C]}; None where M is 0.
  """
  matrix = confusion_matrix(labels, choices, len(names))  # [C,C]
  if not matrix.sum():
    return None
  hit, support, chosen = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
  scores = {
      "precision": _ratio(hit, chosen),
      "recall": _ratio(hit, support),
      "f1": _ratio(2 * hit, support + chosen),
  }                                                      # [C] each
  result = {"n": int(support.sum()),
            "accuracy": float(hit.sum() / support.sum())}
  for name, score in scores.items():
    result[f"macro_{name}"] = float(score[support > 0].mean())
    result[f"official_macro_{name}"] = float(score.mean())
    result[f"weighted_{name}"] = float(np.average(score, weights=support))
  result["classes"] = [
      {"name": name, "support": int(support[i]),
       **{key: float(score[i]) for key, score in scores.items()}}
      for i, name in enumerate(names)]
  result["confusion"] = matrix.tolist()
  return result


def _ratio(part, whole):
  """part / whole, and 0 where whole is 0."""
  return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
