"""nuScenes' tables, read row by row and sorted by scene, for nuscenes.py.

What comes out is one object a scene: {"cameras": {folder: [[time in us, file],
...]}, "poses": [[time in us, x, y in m, yaw in rad], ...]}, both in order.
"""

import functools
import json
import os

import numpy as np

from data_pipeline import bench2drive, errors, schema

FOLDER_OF_CHANNEL = {
    "CAM_FRONT": "rgb_front", "CAM_FRONT_LEFT": "rgb_front_left",
    "CAM_FRONT_RIGHT": "rgb_front_right", "CAM_BACK": "rgb_back",
    "CAM_BACK_LEFT": "rgb_back_left", "CAM_BACK_RIGHT": "rgb_back_right"}
POSE_CHANNEL = "CAM_FRONT"     # whose poses are the ego's path
LONGEST_US = 3_600_000_000     # of a scene; nuScenes' last 20 s
CHUNK = 1 << 20                # characters read at a time


def _taken(row):
  """A time in microseconds and a relative path."""
  return (isinstance(row, (list, tuple)) and len(row) == 2
          and schema.count(row[0]) and schema.inside(row[1]))


def _pose(row):
  """A time in microseconds and three numbers."""
  return (isinstance(row, (list, tuple)) and len(row) == 4
          and schema.count(row[0]) and all(map(schema.number, row)))


SCENE = {"cameras": schema.Each([_taken]), "poses": [_pose]}
COLUMNS = {  # of each table, those that are read
    "log": {"token": str, "location": str},
    "scene": {"token": str, "name": str, "log_token": str},
    "sample": {"token": str, "scene_token": str},
    "sensor": {"token": str, "channel": str},
    "calibrated_sensor": {"token": str, "sensor_token": str},
    "sample_data": {
        "calibrated_sensor_token": str, "sample_token": str,
        "ego_pose_token": str, "is_key_frame": bool,
        "timestamp": schema.count, "filename": str},
    "ego_pose": {"token": str, "timestamp": schema.count,
                 "translation": [schema.number], "rotation": [schema.number]}}


def by_scene(tables, keyframes_only):
  """Returns {route name: {"cameras", "poses"}}."""
  read = functools.partial(_rows, tables)
  place = {log["token"]: log["location"] for log in read("log")}
  names = {}
  for scene in read("scene"):
    name = route_name(scene["name"], _of(tables, place, scene["log_token"]))
    bench2drive.parse_name(name)
    names[scene["token"]] = name
  scene_of = {s["token"]: _of(tables, names, s["scene_token"])
              for s in read("sample")}
  channel = {s["token"]: s["channel"] for s in read("sensor")}
  camera = {}
  for row in read("calibrated_sensor"):
    found = _of(tables, channel, row["sensor_token"])
    if found in FOLDER_OF_CHANNEL:
      camera[row["token"]] = found
  scenes = {name: {"cameras": {f: [] for f in FOLDER_OF_CHANNEL.values()},
                   "poses": []} for name in names.values()}
  scene_of_pose = {}
  for row in read("sample_data"):
    sensor = camera.get(row["calibrated_sensor_token"])
    if sensor is None:
      continue  # a radar or the lidar
    name = _of(tables, scene_of, row["sample_token"])
    if sensor == POSE_CHANNEL:
      scene_of_pose[row["ego_pose_token"]] = name
    if row["is_key_frame"] or not keyframes_only:
      scenes[name]["cameras"][FOLDER_OF_CHANNEL[sensor]].append(
          (row["timestamp"], row["filename"]))
  for row in read("ego_pose"):
    if row["token"] in scene_of_pose:
      x, y = row["translation"][:2]
      scenes[scene_of_pose[row["token"]]]["poses"].append(
          (row["timestamp"], x, y, _yaw(row["rotation"])))
  for name, content in scenes.items():
    content["poses"].sort()
    for taken in content["cameras"].values():
      taken.sort()
    why = scene_fault(content)
    if why:
      raise errors.DataError(
          f"{tables}: {name}: {why}; extract the tables again")
  return scenes


def _of(tables, rows, token):
  """The row that another table's token names."""
  if token not in rows:
    raise errors.DataError(
        f"{tables}: the tables do not fit together, {token!r} is missing; "
        "extract them again")
  return rows[token]


def scene_fault(content):
  """What is wrong with a scene's cameras and poses, in words, or None."""
  why = schema.fault(content, SCENE, "the scene")
  if why:
    return why
  if set(content["cameras"]) != set(FOLDER_OF_CHANNEL.values()):
    return f"it has the cameras {sorted(content['cameras'])}"
  rows = [*content["cameras"].values(), content["poses"]]
  if any(len(part) < 2 for part in rows):
    return "it lacks poses or images of a camera"
  times = [row[0] for part in rows for row in part]
  if max(times) - min(times) > LONGEST_US:
    return f"it lasts {(max(times) - min(times)) / 1e6:.0f} s"
  if any(a[0] > b[0] for part in rows for a, b in zip(part, part[1:])):
    return "its times are not in order"
  if any(a[0] == b[0] for a, b in zip(rows[-1], rows[-1][1:])):
    return "it has two poses at one time"
  return None


def _rows(tables, table):
  """Yields the rows of a table without holding them all."""
  path = os.path.join(tables, f"{table}.json")
  decode = json.JSONDecoder().raw_decode
  text, at, closed = "", 0, False
  try:
    with open(path, encoding="utf-8") as file:
      while True:
        while at < len(text) and text[at] in "[], \t\r\n":
          closed = closed or text[at] == "]"
          at += 1
        try:
          row, at = decode(text, at)
        except RecursionError:
          raise errors.DataError(
              f"{path}: a row is nested too deeply; extract the tables again"
              ) from None
        except json.JSONDecodeError as error:
          more = file.read(CHUNK)
          if more:
            text, at = text[at:] + more, 0
            continue
          if at == len(text) and closed:
            return
          raise errors.DataError(
              f"{path} is no whole table ({error.msg} near its end); extract "
              "the tables again") from None
        why = schema.fault(row, COLUMNS[table], "a row")
        if not why and table == "ego_pose" and (
            len(row["translation"]) != 3 or len(row["rotation"]) != 4):
          why = "a row's translation or rotation has another length"
        if why:
          raise errors.DataError(f"{path}: {why}; extract the tables again")
        yield row
  except errors.DataError:
    raise
  except (OSError, ValueError) as error:  # no file, no text, a huge number
    raise errors.DataError(
        f"{path} cannot be read ({error}); give the folder that holds the "
        "tables as --version") from None


def route_name(scene, place):
  """"scene-0061", "boston-seaport" -> a name of Bench2Drive's four parts."""
  return f"nuScenes_{place}_Route{scene.rpartition('-')[2]}_Weather0"


def _yaw(rotation):
  """Quaternion (w, x, y, z) -> yaw, counter-clockwise from above."""
  w, x, y, z = rotation
  return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
