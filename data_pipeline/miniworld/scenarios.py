"""The scenarios: seeded scenes with a name from Bench2Drive's type list.

Each builder draws from one numpy Generator; `seed` also cycles the variants
(left, right, ...) so that every few seeds hold all of them.
"""

import difflib
import zlib

import numpy as np

from data_pipeline import errors
from data_pipeline.miniworld import (
  crossroads,
  hazards,
  names,
  obstacles,
  traffic,
)

# In the order of names.TYPES.
_BUILDERS = (
    crossroads.t_junction, crossroads.green_light, obstacles.parked_obstacle,
    obstacles.parked_obstacle, hazards.dynamic_object_crossing,
    traffic.merger, traffic.lane_change, traffic.parking_exit,
    obstacles.construction_obstacle, hazards.hard_brake,
    traffic.emergency_vehicle, traffic.cut_in, crossroads.stop_sign,
    crossroads.red_light)
SCENARIOS = dict(zip(names.TYPES, _BUILDERS, strict=True))


def build(kind, seed):
  """The Scene of a scenario type and a seed.

  Raises:
    ConfigError: unknown type, with the nearest one.
  """
  check(kind)
  rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
  return SCENARIOS[kind](kind, seed, rng)


def check(kind):
  """Refuses a scenario name that does not exist."""
  if kind not in SCENARIOS:
    near = difflib.get_close_matches(kind, SCENARIOS, n=1, cutoff=0.3)
    hint = (f"did you mean {near[0]!r}?" if near
            else f"known: {sorted(SCENARIOS)}")
    raise errors.ConfigError(f"unknown scenario {kind!r}; {hint}")
