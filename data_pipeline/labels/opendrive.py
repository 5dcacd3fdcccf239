"""Junctions and lanes from an OpenDRIVE map, if the user has one.

CARLA's client reads the file without a server: `pip install carla`. Nothing
here is imported or opened unless a folder of maps is named.
"""

import dataclasses
import functools
import os

from data_pipeline import errors
from data_pipeline.labels import constants as consts

STEP = 2.0  # between looks ahead [m]


@dataclasses.dataclass(frozen=True)
class Spot:
  """What the map says of the ego's place.

  Attributes:
    junction: it lies in a junction. junction_ahead: one is at hand.
    parking: the lane is for parking. sides: LEFT, RIGHT with a lane to drive
      on beside this one.
  """

  junction: bool
  junction_ahead: bool
  parking: bool
  sides: frozenset

  def drivable(self, side):
    return side in self.sides


class RoadMap:
  """A carla.Map with the questions that the rules ask.

  Args:
    carla: the imported module, or a stand-in with Location and LaneType.
    carla_map: the map. reach: how far a junction is at hand [m].
  """

  def __init__(self, carla, carla_map, reach=consts.DEFAULTS.junction_ahead):
    self._carla, self._map, self._reach = carla, carla_map, reach

  def spot(self, location):
    """Spot of a world location (x, y, z) [m]."""
    place = self._carla.Location(*location)
    types = self._carla.LaneType
    lane = self._map.get_waypoint(place, lane_type=types.Any)
    road = self._map.get_waypoint(place, lane_type=types.Driving)
    beside = {consts.LEFT: road.get_left_lane(),
              consts.RIGHT: road.get_right_lane()}
    return Spot(
        junction=road.is_junction, junction_ahead=self._ahead(road),
        parking=lane.lane_type == types.Parking,
        sides=frozenset(side for side, other in beside.items()
                        if other and other.lane_type == types.Driving))

  def _ahead(self, road):
    steps = int(self._reach / STEP)
    return any(waypoint.is_junction for i in range(1, steps + 1)
               for waypoint in road.next(i * STEP))


@functools.lru_cache(maxsize=1)  # the largest takes minutes and gigabytes
def load(folder, town):
  """Returns the RoadMap of folder/town.xodr.

  Raises:
    ConfigError: CARLA's client is not installed.
    DataError: no such file, or it is no map.
  """
  path = os.path.join(folder, f"{town}.xodr")
  if not os.path.isfile(path):
    raise errors.DataError(
        f"{path}: no such map; put the town's OpenDRIVE file there, or run "
        "without --maps")
  try:
    import carla
  except ImportError as error:
    raise errors.ConfigError(
        f"--maps needs CARLA's client ({error}): pip install "
        "-e '.[carla]', or run without --maps") from None
  with open(path, encoding="utf-8") as file:
    text = file.read()
  try:
    return RoadMap(carla, carla.Map(town, text))
  except RuntimeError as error:
    raise errors.DataError(
        f"{path} is not a map that CARLA reads ({error}); fetch it again"
        ) from None
