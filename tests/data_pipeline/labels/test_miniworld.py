"""The rules recover what the miniworld's scripts say of their own drives.

Written annotations alone go in: the drives are not even rendered.
"""

import json

import numpy as np
import pytest

from data_pipeline.labels import compare, files
from data_pipeline.miniworld import annotations as miniworld
from data_pipeline.miniworld import expert, recorder, scenarios, world
from data_pipeline.miniworld import labels as scripts
from tests.data_pipeline.labels import drives

SEED = 3


def drive(kind):
  """(raw annotations, scripts' (cameras, skills)) of one seed's drive."""
  place = world.World((32, 32))
  state, facts, moments = place.reset(kind, SEED), [], []
  driver = expert.Expert(place)
  while not state.finished and len(moments) < recorder.MAX_FRAMES:
    control = driver.control()
    if state.tick % recorder.EVERY == 0:
      moments.append(json.loads(json.dumps(
          miniworld.annotate(place, control, driver.emergency))))
      facts.append(scripts.facts(place, control, driver.emergency,
                                 *miniworld.affecting(place)))
    state = place.step(control)
  return moments, scripts.of_scene(facts, place.scene)


@pytest.fixture(scope="module")
def both():
  """{kind: (labels of the scripts, ours)} of one drive per scenario type."""
  sides = {kind: ([], []) for kind in files.FOLDERS}
  for scenario in scenarios.SCENARIOS:
    moments, truth = drive(scenario)
    ours = drives.label(scenario, moments)
    for kind, theirs in zip(files.FOLDERS, truth, strict=True):
      sides[kind][0].extend(theirs)
      sides[kind][1].extend(getattr(ours, kind))
  return sides


@pytest.mark.parametrize("kind", files.FOLDERS)
def test_labels_of_scripted_drives_are_recovered(both, kind):
  table, classes = files.CLASS_OF_LABEL[kind], compare.CLASSES[kind]
  ids = [[table[label] for label in side] for side in both[kind]]
  matrix = np.zeros((len(classes), len(classes)), int)
  np.add.at(matrix, tuple(ids), 1)
  scores = compare.agreement(matrix, [c.name for c in classes])
  assert scores["accuracy"] >= 0.95, matrix
  assert scores["macro_f1"] >= 0.9, matrix
