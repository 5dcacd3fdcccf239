"""How well could a perfect planner drive through the car's own controller?

Every tenth of a second the expert is asked for its next 0.9 s from where the
car is, and the controller of the release follows that plan. What is lost here
no model can win.
"""

import copy
import math

import numpy as np
import pytest

from data_pipeline import control, ticks
from data_pipeline.miniworld import episode, expert, names
from data_pipeline.miniworld import world as worlds

ROWS = 10


class Planned:
  """A driver for episode.drive."""

  def __init__(self, world):
    self._world, self._expert = world, expert.Expert(world)
    self._controller, self._said = control.Controller(), None

  def control(self):
    state = self._world.state()
    self._expert.control()  # so that it knows what it saw
    if state.tick < ticks.TICKS:
      return worlds.Control(brake=1.0)
    if (state.tick - ticks.TICKS) % ticks.PLAN_EVERY == 0:
      self._said = worlds.Control(*self._controller.follow(
          self._plan(state), state.speed))
    return self._said

  def _plan(self, state):                                # -> [R,2] m
    world = self._world
    same = (world.ground, world.renderer, world.scene.town, world.scene.route)
    driver = copy.deepcopy(self._expert, {id(x): x for x in same})
    ahead, places = driver._world, []
    for tick in range(2 * ROWS - 1):
      if tick % 2 == 0:
        places.append(ahead.state().position)
      ahead.step(driver.control())
    way = np.array(places) - state.position
    cos, sin = math.cos(state.heading), math.sin(state.heading)
    return way @ np.array([[cos, -sin], [sin, cos]])


def drive(kind):
  return episode.drive(kind, names.FIRST_TEST_SEED, Planned, (64, 36))["record"]


def test_a_red_light_is_obeyed():
  assert drive("VanillaSignalizedTurnEncounterRedLight")["status"] == "Perfect"


@pytest.mark.slow
@pytest.mark.parametrize("kind", names.TYPES)
def test_every_type_can_be_driven(kind):
  assert drive(kind)["status"] == "Perfect"
