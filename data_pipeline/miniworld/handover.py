"""Recordings that begin in the middle of a drive.

Whoever learns from the expert alone never sees what his own mistakes lead to:
too fast before a red light, half a metre off the lane, slow where nothing is in
the way. So for odd seeds a driver who sees nobody goes first, unrecorded, and
the expert takes over as late as he can still do so without an infraction. For
even seeds the expert has the wheel from the start, and half of the recordings
begin with it, half at some later moment. As in a drive of a policy the car
stands on the brake at first, so that starting is learnt too. The recorded plans
are all the expert's.
"""

import functools

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


def begin(kind, seed, size):
  """A World of (kind, seed) at the moment at which the recording begins.

  Where no moment goes well, at which another driver could hand over, it is the
  start, without the brake.
  """
  rng = np.random.default_rng([int(names.number(kind, seed)), 3])
  last = int(rng.integers(ticks.TICKS, LATEST))
  speed, offset = rng.uniform(*SPEEDS), rng.uniform(-OFFSET, OFFSET)
  moments = [ticks.TICKS]
  if seed % 4:
    moments = _earlier(last)
  first = experts.Expert if seed % 2 == 0 else functools.partial(
      drivers.Blind, speed=speed, offset=offset)
  reached = _driven(kind, seed, size, {0, *moments}, first)
  for moment in moments:
    if moment in reached and _is_safe(reached[moment].fork()):
      return reached[moment]
  return reached[0]


def _earlier(last):
  """Ticks to try, from the last one on, each EARLIER than the one before."""
  moments = []
  while last >= ticks.TICKS:
    moments.append(last)
    last = int(EARLIER * last)
  return moments


def _driven(kind, seed, size, moments, make):
  """{tick: World} at those ticks that the first driver comes to."""
  world = worlds.World(size)
  state, reached = world.reset(kind, seed), {}
  first = make(world)
  while not state.finished:
    if state.tick in moments:
      reached[state.tick] = world.fork()
    if state.tick == max(moments):
      break
    state = world.step(worlds.Control(brake=1.0) if state.tick < ticks.TICKS
                       else first.control())
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
