"""The rules recover what the miniworld's scripts say of their own drives.

Written annotations alone go in: the drives are not even rendered.
"""

import itertools
import json

import numpy as np
import pytest

from data_pipeline.labels import compare, files
from data_pipeline.miniworld import annotations as miniworld
from data_pipeline.miniworld import expert, names, recorder, worker, world
from data_pipeline.miniworld import labels as scripts
from tests.data_pipeline.labels import drives

SEED = 3


def drive(kind, seed):
  """(raw annotations, scripts' (cameras, skills)) of one drive."""
  place = world.World((32, 32))
  state, facts, moments = place.reset(kind, seed), [], []
  driver = expert.Expert(place)
  while not state.finished and len(moments) < recorder.MAX_FRAMES:
    control = driver.control()
    if state.tick % worker.EVERY == 0:
      moments.append(json.loads(json.dumps(
          miniworld.annotate(place, driver.asked, driver.emergency))))
      facts.append(scripts.facts(place, driver.asked, driver.emergency,
                                 *miniworld.affecting(place)))
    state = place.step(control)
  return moments, scripts.of_scene(facts, place.scene)


def compared(scenarios, seeds):
  """{kind: (labels of the scripts, ours)} of drives."""
  sides = {kind: ([], []) for kind in files.FOLDERS}
  for scenario, seed in itertools.product(scenarios, seeds):
    moments, truth = drive(scenario, seed)
    ours = drives.label(scenario, moments)
    for kind, theirs in zip(files.FOLDERS, truth, strict=True):
      sides[kind][0].extend(theirs)
      sides[kind][1].extend(getattr(ours, kind))
  return sides


@pytest.fixture(scope="module")
def both():
  return compared(names.FIRST, [SEED])


@pytest.fixture(scope="module")
def many():
  return compared(names.TYPES, [SEED, 9001, names.FIRST_TEST_SEED])


def scores(sides, kind):
  """(agreement, confusion) of two lists of labels."""
  table, classes = files.CLASS_OF_LABEL[kind], compare.CLASSES[kind]
  ids = [[table[label] for label in side] for side in sides[kind]]
  matrix = np.zeros((len(classes), len(classes)), int)
  np.add.at(matrix, tuple(ids), 1)
  return compare.agreement(matrix, [c.name for c in classes]), matrix


@pytest.mark.parametrize("kind", files.FOLDERS)
def test_labels_of_scripted_drives_are_recovered(both, kind):
  found, matrix = scores(both, kind)
  assert found["accuracy"] >= 0.95, matrix
  assert found["macro_f1"] >= 0.9, matrix


@pytest.mark.parametrize("seed, most", [(9003, 0.3), (9004, 0.0)])
def test_only_who_brakes_hard_brakes_for_an_emergency(seed, most):
  """On seed 9004 the car ahead never stops; on 9003 it does, once."""
  moments, (_, skills) = drive("HardBreakRoute", seed)
  ours = drives.label("HardBreakRoute", moments).skill
  for labels in (skills, ours):
    share = np.mean([label == "EMERGENCY_BRAKE" for label in labels])
    assert (share > 0) == (most > 0) and share <= most


@pytest.mark.slow
@pytest.mark.parametrize("kind", files.FOLDERS)
def test_labels_of_all_scenarios_are_recovered(many, kind):
  found, matrix = scores(many, kind)
  assert found["accuracy"] >= 0.95, matrix
  assert found["macro_f1"] >= 0.9, matrix
  # Every skill and every view that the scenarios ask for is there.
  assert (matrix.sum(1) > 0).sum() == (7 if kind == "skill" else 5)
