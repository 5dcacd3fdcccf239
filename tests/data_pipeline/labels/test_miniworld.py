"""The rules recover what the miniworld's scripts say of their own drives.

Written annotations alone go in: the drives are not even rendered.
"""

import json

import numpy as np
import pytest

from data_pipeline.labels import compare
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
                                 miniworld.affecting_light(place)))
    state = place.step(control)
  return moments, scripts.label(facts, place.scene.bypass)


@pytest.mark.parametrize("kind", scenarios.SCENARIOS)
def test_labels_of_a_scripted_drive_are_recovered(kind):
  moments, truth = drive(kind)
  label = drives.label(kind, moments)
  for (name, table), theirs, ours in zip(
      compare.files.CLASS_OF_LABEL.items(), truth,
      (label.camera, label.skill), strict=True):
    ids = [np.array([table[x] for x in side]) for side in (theirs, ours)]
    classes = len(compare.CLASSES[name])
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, tuple(ids), 1)
    scores = compare.agreement(matrix, list(range(classes)))
    assert scores["accuracy"] >= 0.95, (name, matrix)
    assert scores["macro_f1"] >= 0.9, (name, matrix)
