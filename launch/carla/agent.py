"""Bench2Drive agent: cameras and GPS in, pedals out, the model elsewhere.

The evaluator is given this file and a JSON config, see Config and
docs/carla.md. It runs on Python 3.7 to 3.13 and imports no JAX: plans come
from a policy server, or, where Python is new enough, from `in_process`. All
decisions are data_pipeline.driver's; this file knows CARLA's names only.
"""

import collections
import json
import os

import carla
from leaderboard.autoagents import autonomous_agent

from data_pipeline import (
  control,
  driver,
  errors,
  navigation,
  safety,
  sensor_images,
  spec,
  ticks,
  wire,
)
from launch.carla import remote

# CARLA's camera -> folder of spec.IMAGES, x, y, z [m], yaw and view [deg].
CAMERAS = (
    ("CAM_FRONT", "rgb_front", 0.80, 0.0, 1.60, 0.0, 70.0),
    ("CAM_FRONT_LEFT", "rgb_front_left", 0.27, -0.55, 1.60, -55.0, 70.0),
    ("CAM_FRONT_RIGHT", "rgb_front_right", 0.27, 0.55, 1.60, 55.0, 70.0),
    ("CAM_BACK", "rgb_back", -2.0, 0.0, 1.60, 180.0, 110.0),
    ("CAM_BACK_LEFT", "rgb_back_left", -0.32, -0.55, 1.60, -110.0, 70.0),
    ("CAM_BACK_RIGHT", "rgb_back_right", -0.32, 0.55, 1.60, 110.0, 70.0),
)
SAVE_EVERY = 50  # planned ticks between writes of metric_info.json

DEFAULTS = collections.OrderedDict((
    ("server", None),          # ws://HOST:PORT
    ("api_key_file", None),    # its first line is the server's key
    ("wait_s", 120.0),         # for the server, at the start of a route
    ("timeout_s", 10.0),       # for a plan; later ones are not followed
    ("workdir", None),         # a run folder: the model in this process
    ("step", None),            # its checkpoint; the latest
    ("controller", "drivemoe"),
    ("official_parity", False),
    ("options", {}),           # single ones of ticks.Options
    ("safety", {}),            # single ones of safety.Limits
    ("camera_width", 1600),    # as recorded; heights are 9/16 of it
    ("threads", 2),            # that prepare images
))
Config = collections.namedtuple("Config", tuple(DEFAULTS))


def get_entry_point():
  """The class that the evaluator makes."""
  return "DriveMoEAgent"


def read_config(path):
  """Config of a JSON file; ConfigError where it makes no sense."""
  try:
    with open(path, encoding="utf-8") as file:
      values = json.load(file)
  except (OSError, ValueError, RecursionError) as error:
    raise errors.ConfigError(f"{path}: {error}; give a JSON file as the "
                             "agent's config, see docs/carla.md") from None
  if not isinstance(values, dict):
    raise errors.ConfigError(f"{path}: holds no object, see docs/carla.md")
  unknown = sorted(set(values) - set(DEFAULTS))
  if unknown:
    raise errors.ConfigError(
        f"{path}: unknown keys {unknown}; known: {', '.join(DEFAULTS)}")
  config = Config(**dict(DEFAULTS, **values))
  for name, default in DEFAULTS.items():
    value = getattr(config, name)
    fits, kind = KINDS["step" if name == "step" else type(default)]
    if not fits(value):
      raise errors.ConfigError(f"{path}: {name} is {value!r}; give {kind}")
  if (config.server is None) == (config.workdir is None):
    raise errors.ConfigError(
        f"{path}: give either server or workdir, not {config.server!r} and "
        f"{config.workdir!r}")
  return config


# Type of a default -> (what fits, in words).
KINDS = {
    "step": (lambda x: x is None or type(x) is int and x >= 0,
             "a whole number or null"),
    dict: (lambda x: isinstance(x, dict), "an object"),
    float: (lambda x: type(x) in (int, float) and 0 <= x < float("inf"),
            "a number from 0"),
    int: (lambda x: type(x) is int and x > 0, "a whole number from 1"),
    bool: (lambda x: type(x) is bool, "true or false"),
    str: (lambda x: isinstance(x, str), "a text"),
    type(None): (lambda x: x is None or isinstance(x, str), "a text or null")}


class DriveMoEAgent(autonomous_agent.AutonomousAgent):
  """See the file's docstring; the evaluator calls setup, sensors, run_step
  once a tick, destroy."""

  _config = _driver = _policy = _prepare = _record = None
  _newest = -1               # frame of the last tick

  def setup(self, path_to_conf_file):
    """Args: path_to_conf_file: CONFIG.json+...+SAVE_NAME."""
    self.track = autonomous_agent.Track.SENSORS
    path, *names = path_to_conf_file.split("+")
    config = self._config = read_config(path)
    options = ticks.options(config.official_parity, **config.options)
    limits = safety.limits(**config.safety)
    controller = control.Controller(config.controller)
    buffer = self._buffer(options)
    self._policy = _policy(config, options)
    size = _check(self._policy.metadata)
    self._prepare = sensor_images.Preparer(size, options.jpeg_order,
                                           config.threads)
    width = config.camera_width
    self._driver = driver.Driver(
        buffer, controller, self._prepare, self._policy.plan,
        frame_shape=(width * 9 // 16, width, 4), limits=limits,
        timeout_s=config.timeout_s)
    self._record = _Record(os.environ.get("SAVE_PATH"),
                           names[-1] if names else "")
    _say(f"controller {config.controller}, {options}")

  def _buffer(self, options):
    plan = (self._plan_gps_HACK if options.nav_plan == "dense"
            else self._global_plan)
    if not plan:
      raise errors.DataError("the evaluator gave no route; set_global_plan "
                             "comes before setup")
    gps = [(node["lat"], node["lon"]) for node, _ in plan]
    xy = None
    if self._global_plan_world_coord:
      place = self._global_plan_world_coord[0][0].location
      xy = (place.x, place.y)
    first = self._global_plan[0][0]
    reference = navigation.Georeference.solve((first["lat"], first["lon"]), xy)
    return ticks.Buffer(reference, [reference.to_world(*p) for p in gps],
                        options)

  def sensors(self):
    """Bench2Drive's rig."""
    width = self._config.camera_width
    place = lambda x, y, z, yaw: {
        "x": x, "y": y, "z": z, "roll": 0.0, "pitch": 0.0, "yaw": yaw}
    cameras = [
        dict(place(x, y, z, yaw), type="sensor.camera.rgb", id=name,
             width=width, height=width * 9 // 16, fov=view)
        for name, _, x, y, z, yaw, view in CAMERAS]
    behind = place(ticks.SENSOR_X, 0.0, 0.0, 0.0)
    return cameras + [
        dict(behind, type="sensor.other.imu", sensor_tick=0.05, id="IMU"),
        dict(behind, type="sensor.other.gnss", sensor_tick=0.01, id="GPS"),
        {"type": "sensor.speedometer", "reading_frequency": 20, "id": "SPEED"}]

  def run_step(self, input_data, timestamp):
    """One tick of the evaluator -> carla.VehicleControl."""
    command = self._driver.step(*self._read(input_data), time_s=timestamp)
    if self._driver.due and self.hero_actor is not None:
      self._record.add(self._driver.tick, self.get_metric_info())
    return carla.VehicleControl(  # pyright: ignore[reportAttributeAccessIssue]
        throttle=command.throttle, steer=command.steer, brake=command.brake)

  def _read(self, input_data):
    """(ticks.Reading, {folder: frame}), None for what did not come."""
    now = max([frame for frame, _ in input_data.values()], default=-1)
    fresh = {name: value for name, (frame, value) in input_data.items()
             if frame == now > self._newest}  # not what was seen before
    self._newest = max(now, self._newest)
    cameras = {folder: fresh.get(name) for name, folder, *_ in CAMERAS}
    part = lambda name, key: _part(fresh.get(name), key)
    return ticks.Reading(
        gps=part("GPS", slice(2)), compass=part("IMU", 6),
        speed=part("SPEED", "speed"), acceleration=part("IMU", slice(3)),
        angular_velocity=part("IMU", slice(3, 6))), cameras

  def destroy(self):
    """Writes the records and lets go of the policy."""
    if self._driver is not None:
      summary = self._driver.summary()
      _say(f"{summary['ticks']} ticks, faults {summary['faults']}, stops "
           f"{len(summary['stops'])}, overruled plans {summary['overrides']}")
      self._record.close(summary)
    for part in (self._policy, self._prepare):
      if part is not None:
        part.close()
    self._driver = self._policy = self._prepare = None


def _part(value, key):
  """value[key], or None where it has no such thing."""
  try:
    return value[key]
  except (TypeError, KeyError, IndexError):
    return None


def _say(text):
  """Prints, as the evaluator does; it shows no log below a warning."""
  print(f"drivemoe: {text}", flush=True)


def _policy(config, options):
  """The server, connected, or the model in this process, compiled."""
  if config.workdir is not None:
    from launch.carla import in_process
    return in_process.load(config.workdir, config.step, options.augment)
  path = config.api_key_file
  key = None if path is None else wire.read_key(path)
  server = remote.RemotePolicy(config.server, key, config.timeout_s)
  server.wait(config.wait_s)
  return server


def _check(metadata):
  """Image size of a policy that fits this agent."""
  expected = {"protocol": 1, "history": len(ticks.PAST),
              "images": [list(image) for image in spec.IMAGES]}
  for key, value in expected.items():
    if metadata.get(key) != value:
      raise errors.ConfigError(
          f"the policy has {key} {metadata.get(key)!r}, this agent "
          f"{value!r}; use server and agent of one version")
  if metadata["horizon"] <= control.SPEED_ROW:
    raise errors.ConfigError(
        f"the policy plans {metadata['horizon']} points; the controller needs "
        f"more than {control.SPEED_ROW}: train with another model.horizon")
  return metadata["image_size"]


class _Record:
  """metric_info.json, which the official scores of comfort are made of, and
  drive.json, how the drive went; nothing without a folder."""

  def __init__(self, root, name):
    self._folder = os.path.join(root, name) if root else None
    self._metrics = collections.OrderedDict()
    if self._folder:
      os.makedirs(self._folder, exist_ok=True)

  def add(self, tick, metrics):
    self._metrics[str(tick)] = metrics
    if len(self._metrics) % SAVE_EVERY == 0:
      self._write("metric_info.json", self._metrics)

  def close(self, summary):
    self._write("metric_info.json", self._metrics)
    self._write("drive.json", summary)

  def _write(self, name, value):
    if not self._folder:
      return
    path = os.path.join(self._folder, name)
    with open(path + ".part", "w", encoding="utf-8") as file:
      json.dump(value, file, allow_nan=False)
    os.replace(path + ".part", path)
