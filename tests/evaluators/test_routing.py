"""Router reports against counts done by hand."""

import numpy as np
import pytest

from drivemoe_jax.evaluators import routing

NAMES = ("a", "b", "c", "d")
# a: 3 labels, 2 hit; b: 1 label, hit, and one a taken for it; c: never
# labelled or chosen; d: 1 label, taken for a.
LABELS = np.array([0, 0, 0, 1, 3])
CHOICES = np.array([0, 0, 1, 1, 0])


def test_confusion_has_labels_in_rows():
  assert routing.confusion_matrix(LABELS, CHOICES, 4).tolist() == [
      [2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_scores_by_hand():
  got = routing.report(LABELS, CHOICES, NAMES)
  by_class = {c["name"]: c for c in got["classes"]}
  assert by_class["a"] == {"name": "a", "support": 3, "precision": 2 / 3,
                           "recall": 2 / 3, "f1": 2 / 3}
  assert by_class["b"] == {"name": "b", "support": 1, "precision": 0.5,
                           "recall": 1.0, "f1": 2 / 3}
  assert by_class["c"] == {"name": "c", "support": 0, "precision": 0.0,
                           "recall": 0.0, "f1": 0.0}
  assert by_class["d"]["recall"] == 0 and by_class["d"]["support"] == 1
  assert got["accuracy"] == 3 / 5 and got["n"] == 5
  np.testing.assert_allclose(got["macro_f1"], (2 / 3 + 2 / 3 + 0) / 3)
  np.testing.assert_allclose(got["official_macro_f1"], (4 / 3) / 4)
  np.testing.assert_allclose(got["weighted_f1"], (3 * 2 / 3 + 2 / 3) / 5)
  np.testing.assert_allclose(got["weighted_recall"], got["accuracy"])


def test_a_chosen_class_without_labels_costs_the_others_only():
  got = routing.report(np.array([0, 0]), np.array([0, 1]), ("a", "b"))
  assert got["classes"][1] == {"name": "b", "support": 0, "precision": 0.0,
                               "recall": 0.0, "f1": 0.0}
  np.testing.assert_allclose(got["macro_f1"], 2 / 3)
  np.testing.assert_allclose(got["official_macro_f1"], 1 / 3)


def test_relabelling_classes_changes_no_mean():
  rng = np.random.default_rng(0)
  labels, choices = rng.integers(0, 4, (2, 200))
  order = np.array([2, 0, 3, 1])
  one = routing.report(labels, choices, NAMES)
  two = routing.report(order[labels], order[choices], NAMES)
  for name in ("accuracy", "macro_f1", "weighted_f1", "macro_precision"):
    np.testing.assert_allclose(one[name], two[name])


def test_ids_outside_the_names_are_refused():
  with pytest.raises(ValueError, match="choice ids span 0..4, classes"):
    routing.report(np.array([0, 1]), np.array([0, 4]), NAMES)


def test_unnamed_classes_get_numbers():
  assert routing.class_names(("a", "b"), 4) == ("a", "b", "Class 2", "Class 3")
  assert routing.class_names(("a", "b"), 1) == ("a", "b")


def test_no_window_gives_no_report():
  empty = np.zeros(0, int)
  assert routing.report(empty, empty, NAMES) is None


def test_official_names_are_in_order():
  assert routing.CAMERA_NAMES[2] == "Back" and len(routing.CAMERA_NAMES) == 5
  assert routing.SKILL_NAMES[6] == "Normal" and len(routing.SKILL_NAMES) == 7
