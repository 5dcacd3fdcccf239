"""Recordings that begin otherwise than the expert would begin.

Whoever learns from the expert alone never sees what his own mistakes lead to:
too fast before a red light, half a metre off the lane, slow where nothing is in
the way. So for odd seeds a driver who sees nobody goes first, unrecorded, and
the expert takes over as late as he can still do so without an infraction. For
every fourth seed the expert begins standing, as every drive of a policy does,
so that starting is learnt too. The recorded plans are all the expert's.
"""

import numpy as np

from data_pipeline import ticks
from data_pipeline.miniworld import drivers, names, referee
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import world as worlds

SPEEDS = (5.0, 8.5)  # of the first driver [m/s]
OFFSET = 0.6         # from the route, to either side [m]
LATEST = 140         # ticks
WATCHED = 80         # ticks that must go well, and be left to record
EARLIER = 0.8        # of the last try
BRAKE = worlds.Control(brake=1.0)


def begin(world):
  """The World at the moment at which the recording begins.

  Where no handover goes well the expert has the wheel from the start.

  Args:
    world: after its reset; it is driven on, what is returned may be another.
  """
  if world.seed % 2:
    return _handed_over(world)
  if world.seed % 4 == 0:
    for _ in range(ticks.TICKS):
      world.step(BRAKE)
  return world


def _handed_over(world):
  rng = np.random.default_rng(
      [int(names.number(world.scene.kind, world.seed)), 3])
  last, speed = int(rng.integers(ticks.TICKS, LATEST)), rng.uniform(*SPEEDS)
  moments = []
  while last >= ticks.TICKS:
    moments.append(last)
    last = int(EARLIER * last)
  start = world.fork()
  reached = _driven(world, moments, speed, rng.uniform(-OFFSET, OFFSET))
  for moment in moments:
    if moment in reached and _is_safe(reached[moment].fork()):
      return reached[moment]
  return start


def _driven(world, moments, speed, offset):
  """{tick: World} at those ticks that the first driver comes to."""
  state, reached = world.state(), {}
  first = drivers.Blind(world, speed, offset)
  while not state.finished:
    if state.tick in moments:
      reached[state.tick] = world.fork()
    if state.tick == max(moments):
      break
    # As in a drive of a policy the car stands on the brake at first.
    state = world.step(BRAKE if state.tick < ticks.TICKS else first.control())
  return reached


def _is_safe(world):
  """Whether the expert gets along from here; drives the world on."""
  state, driver = world.state(), experts.Expert(world)
  judge, end = referee.Referee(world), state.tick + WATCHED
  judge.watch(state)
  while state.tick < end and not (state.finished or judge.ended):
    state = world.step(driver.control())
    judge.watch(state)
  return state.tick == end and not any(judge.infractions.values())
