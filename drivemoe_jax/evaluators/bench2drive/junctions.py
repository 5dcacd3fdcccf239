"""Where each route enters its junction, from CARLA's maps and planner.

Needs the town's OpenDRIVE file, the route set's XML, CARLA's client (`carla`)
and the `agents` package that CARLA ships beside it; no simulator runs. Only
this module imports them, and only when maps are named.
"""

import collections
import hashlib
import os
import xml.etree.ElementTree as xml

from data_pipeline import errors, reading

RESOLUTION = 1.0  # m between the planner's waypoints
BEYOND = 8  # waypoints past the junction's first, to be through the trigger


def passed(records, route_set, map_root, routes_xml=None):
  """Whether routes came past their junction.

  Args:
    records: Record of each route to tell.
    route_set: the RouteSet. map_root: folder of <Town>.xodr.
    routes_xml: the set's XML file; default: in map_root, under its own name.

  Returns:
    {number: completion / 100 > (k + 8) / n}, where n counts the waypoints of
    the planned route and k is the number of its first one in a junction.

  Raises:
    ConfigError: carla or agents cannot be imported.
    DataError: a map or the XML is missing or another, or a route has no
      junction.
  """
  if not records:
    return {}
  routes = read_routes(routes_xml or os.path.join(map_root, route_set.name),
                       route_set)
  carla, planner = _import()
  by_town = collections.defaultdict(list)
  for record in records:
    by_town[routes[record.number][0]].append(record)
  result = {}
  for town, there in sorted(by_town.items()):
    trace = _tracer(carla, planner, map_root, town)
    for record in there:
      share = entry_share(trace(routes[record.number][1]), record.number)
      result[record.number] = record.completion / 100 > share
  return result


def entry_share(in_junction, number):
  """(k + 8) / n of a route.

  Args:
    in_junction: for each waypoint whether it lies in a junction.
    number: of the route, for the message.
  """
  in_junction = list(in_junction)
  if True not in in_junction:
    raise errors.DataError(
        f"route {number} meets no junction on this map; take the maps of the "
        "CARLA version that drove it")
  return (in_junction.index(True) + 1 + BEYOND) / len(in_junction)


def read_routes(path, route_set):
  """{number: (town, [(x, y, z)])} of a route set's XML file.

  Raises:
    DataError: no such file, or not the official one.
  """
  data = reading.content(
      path, f"name Bench2Drive's {route_set.name} with --routes")
  digest = hashlib.sha256(data).hexdigest()
  if digest != route_set.sha256:
    raise errors.DataError(
        f"{path} has sha256 {digest}, {route_set.name} has "
        f"{route_set.sha256}; take Bench2Drive's own file")
  return {
      route.get("id"): (route.get("town"), [
          tuple(float(point.get(axis)) for axis in "xyz")
          for point in route.find("waypoints").findall("position")])
      for route in xml.fromstring(data).findall("route")}


def _import():
  """(carla, the class GlobalRoutePlanner)."""
  try:
    import carla
  except ImportError as error:
    raise errors.ConfigError(
        f"--map-root needs CARLA's client ({error}): pip install "
        "-e '.[carla]', or leave it out and read the bounds") from None
  try:
    from agents.navigation import global_route_planner
  except ImportError as error:
    raise errors.ConfigError(
        f"--map-root needs the package `agents` ({error}): add PythonAPI/carla "
        "of a CARLA release to PYTHONPATH, and pip install -e '.[carla]'"
        ) from None
  return carla, global_route_planner.GlobalRoutePlanner


def _tracer(carla, planner, map_root, town):
  """keypoints -> whether each planned waypoint lies in a junction."""
  path = os.path.join(map_root, f"{town}.xodr")
  data = reading.content(path, "put the town's OpenDRIVE file there")
  try:
    road_map = carla.Map(town, data.decode())
  except (RuntimeError, UnicodeDecodeError) as error:
    raise errors.DataError(
        f"{path} is not a map that CARLA reads ({error}); fetch it again"
        ) from None
  plan = planner(road_map, RESOLUTION)

  def trace(points):
    places = [carla.Location(*point) for point in points]
    return [waypoint.is_junction
            for start, end in zip(places, places[1:])
            for waypoint, _ in plan.trace_route(start, end)]

  return trace
