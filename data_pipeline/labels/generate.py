"""Labels of one raw route, or of a folder of them.

Axes: N frames.
"""

import collections
import dataclasses
import functools

from data_pipeline import bench2drive, errors
from data_pipeline.labels import annotations, files, opendrive, rules, signals
from data_pipeline.labels import constants as consts


@dataclasses.dataclass(frozen=True)
class Written:
  """What became of one route.

  Attributes:
    new: labelled now; False if its labels were there. frames: N.
    kind: scenario type. counts: {"camera" or "skill": {label: frames}}.
  """

  new: bool
  frames: int
  kind: str
  counts: dict


def label_frames(kind, frames, c=consts.DEFAULTS, road_map=None):
  """Returns rules.Labels of a route.

  Args:
    kind: scenario type. frames: annotations.Frame [N]. c: Constants.
    road_map: opendrive.RoadMap, or None.
  """
  return rules.decide(signals.read(kind, frames, c, road_map), c)


def label_route(root, name, *, maps=None, c=consts.DEFAULTS):
  """Returns rules.Labels of a route folder.

  Args:
    root: folder of the route folders. name: the route's.
    maps: folder of <Town>.xodr files, or None. c: Constants.

  Raises:
    DataError: broken annotations or no map of the town.
    ConfigError: maps are asked for and CARLA's client is missing.
  """
  kind, town, *_ = consts.parse_name(name)
  road_map = opendrive.load(maps, town) if maps else None
  return label_frames(kind, annotations.read_frames(root, name), c, road_map)


def write_route(name, *, root, out, maps=None, overwrite=False,
                c=consts.DEFAULTS):
  """Labels a route and writes its files, unless they are there.

  Args:
    name, root, maps, c: see label_route. out: folder to write.
    overwrite: replace labels of any making.

  Returns:
    Written.

  Raises:
    DataError: see label_route; or `out` has other labels of the route.
  """
  kind = consts.parse_name(name)[0]
  frames = annotations.count_frames(root, name)
  source = signals.FROM_MAP if maps else signals.FROM_COMMAND
  new = overwrite or not files.is_written(
      out, name, files.header(frames, source, c))
  if new:
    files.write(out, name, label_route(root, name, maps=maps, c=c), c)
  counts = {label: dict(collections.Counter(files.read(out, label, name)))
            for label in files.FOLDERS}
  return Written(new, frames, kind, counts)


def list_routes(root, *, maps=None):
  """Names of the routes under `root`, in the order in which to label them.

  With maps it goes town by town, for a process holds one map at a time.
  """
  town = lambda name: consts.parse_name(name)[1]
  return sorted(bench2drive.list_routes(root), key=town if maps else None)


def write_routes(root, names, out, *, maps=None, overwrite=False, workers=1):
  """Yields (route name, Written or the DataError it met), route by route.

  Args:
    names: of the routes. workers: processes. For the rest see write_route.

  Raises:
    ConfigError: maps are asked for and CARLA's client is missing.
  """
  if workers < 1:
    raise errors.ConfigError(f"--workers {workers}: give at least 1")
  function = functools.partial(write_route, root=root, out=out, maps=maps,
                               overwrite=overwrite)
  yield from bench2drive.map_routes(function, names, workers=workers)
