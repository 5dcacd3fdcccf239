"""Recordings that begin otherwise than the expert would begin.

Whoever learns from the expert alone never sees what his own mistakes lead to:
too fast before a red light, half a lane aside, slow where nothing is in the
way. So for seven seeds of eight a careless driver goes first, who sees nobody
and weaves. The expert takes over at a time drawn over the whole drive, or in
the last seconds before the careless one's first infraction; if he cannot get
along from there without one, as late before as he can. Every eighth seed is
the expert's whole drive, which begins standing on the brake, as every drive of
a policy does. The last `LEAD` ticks before the expert are recorded: a window's
past must look like that of a car that drives on, not like one that was just
put there. Their plans are not the expert's: data.whole_past leaves them out.

In place of the careless driver a policy may have gone first (DAgger, Ross et
al., AISTATS 2011): the expert then shows what to do in the states that this
policy itself comes to. Its drive is known from before, tick by tick.
"""

import dataclasses

import numpy as np

from data_pipeline import ticks
from data_pipeline.miniworld import drivers, names, referee
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import world as worlds

SPEEDS = (5.0, 7.3)  # of the careless driver [m/s]; a policy's car has no more
ASIDE = 1.0          # from the route, on average, to either side [m]
WEAVE = 0.8          # on top of it [m]
WAVES = (25.0, 60.0)  # length of that [m]
LATEST = 240         # ticks
WHOLE = 8            # a seed of so many has no handover
LATE = 0.6           # share of handovers shortly before an infraction,
LATE_TICKS = 40      # by less than this
LEAD = 8             # ticks; with the present frame a window's past
WATCHED = 80         # ticks that must go well, and be left to record
EARLIER = 4          # ticks before the last try, then twice that, ...
BRAKE = worlds.Control(brake=1.0)


@dataclasses.dataclass(frozen=True)
class Careless:
  """A driver who keeps a speed [m/s] and weaves about the route [m]."""

  speed: float
  aside: float
  weave: float
  wave: float
  phase: float

  def offset(self, s):
    """Metres of the route -> metres to its right."""
    return self.aside + self.weave * np.sin(
        2 * np.pi * s / self.wave + self.phase)

  def control(self, world):
    return drivers.Blind(world, self.speed, self.offset).control()


@dataclasses.dataclass(frozen=True)
class Again:
  """A driver whose drive of this scene is known: a Control for each tick."""

  controls: list

  def control(self, world):
    tick = world.state().tick
    return self.controls[tick] if tick < len(self.controls) else BRAKE


class Driver:
  """Somebody else for LEAD ticks, then the expert, who watched.

  Attributes:
    careless: who goes first, Careless or Again; None: the car stands on the
      brake.
    emergency, asked: as of the expert.
  """

  def __init__(self, world, careless):
    self._world, self.careless = world, careless
    self._expert = experts.Expert(world)
    self._handover = world.state().tick + LEAD

  @property
  def emergency(self):
    return self._expert.emergency

  @property
  def asked(self):
    return self._expert.asked

  def control(self):
    """The Control for the coming tick."""
    control = self._expert.control()
    if self._world.state().tick < self._handover:
      return self.careless.control(self._world) if self.careless else BRAKE
    return control


def begin(world, controls=None):
  """(World at which the recording begins, its Driver).

  Where no handover goes well there is none: the drive is a whole one.

  Args:
    world: after its reset; it is driven on, what is returned may be another.
    controls: of a drive of this scene, whose driver goes first in place of a
      careless one.
  """
  careless = None
  if hands_over(world.seed):
    world, careless = _handed_over(world, controls)
  if not careless:
    for _ in range(ticks.TICKS - 1 - LEAD):
      world.step(BRAKE)
  return world, Driver(world, careless)


def hands_over(seed):
  """Whether somebody else goes first in this seed's scenes."""
  return bool(seed % WHOLE)


def scenes(kinds, seeds):
  """[(type, seed)] of those in which somebody else goes first."""
  return [(kind, seed) for seed in seeds if hands_over(seed)
          for kind in kinds]


def _handed_over(world, controls):
  rng = np.random.default_rng(
      [int(names.number(world.scene.kind, world.seed)), 3])
  careless = Careless(
      rng.uniform(*SPEEDS), rng.uniform(-ASIDE, ASIDE), rng.uniform(0, WEAVE),
      rng.uniform(*WAVES), rng.uniform(0, 2 * np.pi))
  latest = LATEST
  if controls:
    careless, latest = Again(controls), max(len(controls), ticks.TICKS + 2)
  last = int(rng.integers(ticks.TICKS + 1, latest))
  if rng.random() < LATE:
    # Before the fault: who takes over at it, a line behind him, has none.
    last = (_first_fault(world.fork(), careless) - 1
            - int(rng.integers(LATE_TICKS)))
  moments = [moment - moment % 2  # frames are saved at even ticks
             for moment in last - np.cumsum(np.arange(0, LATEST, EARLIER))
             if moment > ticks.TICKS]
  start = world.fork()
  reached = _driven(world, moments, careless)
  for moment in moments:
    if moment in reached and _is_safe(reached[moment].fork(), careless):
      return reached[moment], careless
  return start, None


def _first_fault(world, careless):
  """Tick of the careless one's first infraction, or of the drive's end."""
  judge = referee.Referee(world)
  while not (judge.ended or any(judge.infractions.values())):
    judge.watch(_step(world, careless))
  return world.state().tick


def _driven(world, moments, careless):
  """{tick: World} at those ticks that the careless driver comes to."""
  state, reached = world.state(), {}
  while moments and not state.finished and state.tick <= moments[0]:
    if state.tick in moments:
      reached[state.tick] = world.fork()
    state = _step(world, careless)
  return reached


def _step(world, careless):
  """As in a drive of a policy the car stands on the brake at first."""
  return world.step(BRAKE if world.state().tick < ticks.TICKS
                    else careless.control(world))


def _is_safe(world, careless):
  """Whether the expert gets along LEAD ticks on; drives the world on."""
  state, driver = world.state(), Driver(world, careless)
  judge, end = referee.Referee(world), state.tick + LEAD + WATCHED
  judge.watch(state)
  while state.tick < end and not (state.finished or judge.ended):
    state = world.step(driver.control())
    judge.watch(state)
    if any(judge.infractions.values()):
      return False
  return state.tick == end
