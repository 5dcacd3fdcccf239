"""Who is on the road: the ego, traffic, parked cars, people, lights, houses.

An Actor is a box with a name in CARLA's words and a Mesh to draw. Moving cars
are highway-env vehicles; the Actor follows them.
"""

import dataclasses
from typing import Any

import numpy as np
from highway_env.vehicle import behavior, kinematics

from data_pipeline.miniworld import shapes

BODIES = ("vehicle", "traffic_sign")  # what stands in the way of a car
RED, YELLOW, GREEN = range(3)  # states of a light
SLOWER = 0.03  # in one tick: more than drag takes, so it brakes [m/s]
EGO_TYPE = "vehicle.lincoln.mkz_2020"
EGO_EXTENT = (2.45, 1.06, 0.75)  # half sizes [m]

# type id: (half length, half width, half height), base type
VEHICLES = {
    "vehicle.tesla.model3": ((2.40, 1.02, 0.74), "car"),
    "vehicle.audi.a2": ((1.85, 0.89, 0.77), "car"),
    "vehicle.nissan.patrol": ((2.30, 0.97, 0.92), "car"),
    "vehicle.mini.cooper_s": ((1.90, 0.98, 0.74), "car"),
    "vehicle.mercedes.sprinter": ((2.95, 0.99, 1.28), "van"),
}
# Those that have priority: type id -> as above, and colour.
EMERGENCY = {
    "vehicle.ford.ambulance": ((3.10, 1.10, 1.30), "van", (236, 236, 230)),
    "vehicle.carlamotors.firetruck": (
        (3.90, 1.20, 1.55), "truck", (206, 30, 26)),
    "vehicle.dodge.charger_police_2020": (
        (2.45, 1.00, 0.78), "car", (30, 34, 44)),
}
PAINTS = ((196, 38, 36), (36, 74, 158), (222, 222, 218), (52, 54, 58),
          (150, 152, 154), (40, 112, 74), (112, 60, 116), (96, 146, 186))
SHIRTS = ((232, 60, 44), (250, 206, 38), (40, 126, 220), (240, 240, 236),
          (232, 96, 180), (60, 190, 96), (250, 140, 30))
SKINS = ((236, 194, 164), (176, 124, 92), (112, 76, 56))
TROUSERS = ((36, 40, 60), (60, 56, 52), (84, 92, 104), (20, 20, 22))


@dataclasses.dataclass
class Actor:
  """One thing that stands or moves.

  Attributes:
    kind: vehicle, walker, traffic_light or scenery.
    extent: half sizes [m]; the box stands on the ground.
    position: world x, y [m]; yaw [rad]; speed [m/s] along `course` [rad].
    state: "dynamic" or "static"; of a light its integer state.
    body: the highway-env vehicle that moves it, if any.
    braking: its brakes are on, or it stands.
    looks: {state, or "brakes" while it is braking: Mesh} where that differs
      from `mesh`.
    trigger: (centre [2], half sizes [2]) of a light's stop area.
  """

  kind: str
  extent: tuple
  position: np.ndarray
  yaw: float
  mesh: shapes.Mesh
  id: int = 0
  type_id: str = ""
  base_type: str = ""
  speed: float = 0.0
  course: float = 0.0
  state: object = "dynamic"
  colour: tuple = (128, 128, 128)
  body: Any = None
  trigger: tuple | None = None
  braking: bool = False
  looks: dict = dataclasses.field(default_factory=dict)

  @property
  def shown(self):
    """The Mesh to draw now."""
    return self.looks.get("brakes" if self.braking else self.state, self.mesh)

  @property
  def heading(self):
    """Unit vector of its course, [2]."""
    return np.array([np.cos(self.course), np.sin(self.course)])

  @property
  def velocity(self):
    return self.speed * self.heading

  @property
  def centre(self):
    """Centre of the box, [3]."""
    return np.array([*self.position, self.extent[2]])

  def follow_body(self):
    if self.body is not None:
      self.position = self.body.position.copy()
      self.yaw = self.course = float(self.body.heading)
      slower = self.speed - float(self.body.speed)
      self.speed = float(self.body.speed)
      self.braking = slower > SLOWER or self.speed < 0.2

  def footprint(self):
    """Corners of the box on the ground, [4,2]."""
    cos, sin = np.cos(self.yaw), np.sin(self.yaw)
    length, width, _ = self.extent
    local = np.array([[length, width], [length, -width], [-length, -width],
                      [-length, width]])
    return local @ np.array([[cos, sin], [-sin, cos]]) + self.position


class Ego(kinematics.Vehicle):
  """The driven car: throttle, brake and steer on highway-env's bicycle.

  Steering is positive to the right. The car does not reverse.
  """

  LENGTH = 2.9         # highway-env turns about axles this far apart [m]
  WIDTH = 2 * EGO_EXTENT[1]
  MAX_STEER = 0.7      # wheel angle at steer = 1 [rad]
  STEER_TIME = 0.1     # the wheels follow with this time constant [s]
  ENGINE, BRAKES = 4.0, 11.0  # at full pedal [m/s^2]
  DRAG = 0.03          # [1/s]

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    self.wheel = 0.0

  def drive(self, throttle, steer, brake, dt):
    """Sets the pedals for the next `dt` seconds."""
    share = 1.0 - np.exp(-dt / self.STEER_TIME)
    target = self.MAX_STEER * float(np.clip(steer, -1, 1))
    self.wheel += share * (target - self.wheel)
    acceleration = (self.ENGINE * np.clip(throttle, 0, 1)
                    - self.BRAKES * np.clip(brake, 0, 1)
                    - self.DRAG * self.speed)
    stop = -self.speed / dt
    self.action = {"steering": self.wheel,
                   "acceleration": float(max(acceleration, stop))}

  def act(self, action=None):
    """The driver has spoken already: see drive()."""

  def on_state_update(self):
    """Lane look-up happens once per state in World, not here."""

  @classmethod
  def pedals(cls, acceleration, speed):
    """(throttle, brake) that give an acceleration [m/s^2]."""
    need = acceleration + cls.DRAG * speed
    if need >= 0:
      return min(need / cls.ENGINE, 1.0), 0.0
    return 0.0, min(-need / cls.BRAKES, 1.0)


class TrafficCar(behavior.IDMVehicle):
  """IDM traffic that keeps its lane and turns about its own axles."""

  def __init__(self, road, lane_index, along, speed, target_speed, extent,
               route=None):
    lane = road.network.get_lane(lane_index)
    self.LENGTH, self.WIDTH = 1.2 * extent[0], 2 * extent[1]  # of the axles
    super().__init__(road, lane.position(along, 0.0), lane.heading_at(along),
                     speed, target_lane_index=lane_index,
                     target_speed=target_speed, route=route,
                     enable_lane_change=False, timer=0.0)

  def on_state_update(self):
    """Traffic is on the lane that it follows, and never rolls back."""
    self.speed = max(self.speed, 0.0)
    self.lane_index = self.target_lane_index
    self.lane = self.road.network.get_lane(self.lane_index)


def vehicle(rng, position, yaw, *, type_id=None, state="dynamic", body=None,
            hazard=False):
  """A car of a random type and colour; with hazard its warning lights are on.
  """
  if type_id is None:
    type_id = str(rng.choice(sorted(VEHICLES)))
  extent, base_type = VEHICLES[type_id]
  colour = PAINTS[rng.integers(len(PAINTS))]
  looks = {"brakes": shapes.vehicle(extent, colour, "brakes")} if body else {}
  return Actor("vehicle", extent, np.array(position, float), float(yaw),
               shapes.vehicle(extent, colour, "warns" if hazard else "dark"),
               type_id=type_id, base_type=base_type, state=state,
               colour=colour, body=body, course=float(yaw), looks=looks)


def emergency_vehicle(rng, body, type_id):
  """An ambulance, fire engine or police car with lights on."""
  extent, base_type, colour = EMERGENCY[type_id]
  mesh = shapes.emergency_vehicle(extent, colour)
  return Actor("vehicle", extent, body.position.copy(), float(body.heading),
               mesh, type_id=type_id, base_type=base_type, colour=colour,
               body=body, course=float(body.heading))


def prop(type_id, extent, mesh, position, yaw, trigger=None):
  """A sign or a barrier; CARLA's annotations call both traffic signs."""
  return Actor("traffic_sign", extent, np.array(position, float), float(yaw),
               mesh, type_id=type_id, state="static", trigger=trigger)


def walker(rng, position, yaw):
  """A person in bright clothes."""
  extent = (0.28, 0.34, 0.90 + 0.06 * rng.random())
  shirt = SHIRTS[rng.integers(len(SHIRTS))]
  mesh = shapes.walker(extent, shirt, TROUSERS[rng.integers(len(TROUSERS))],
                       SKINS[rng.integers(len(SKINS))])
  number = int(rng.integers(1, 50))
  return Actor("walker", extent, np.array(position, float), float(yaw), mesh,
               type_id=f"walker.pedestrian.{number:04d}", colour=shirt,
               base_type="", course=float(yaw))


def traffic_light(position, yaw, state, place, trigger):
  """A light for drivers who travel along `yaw`, see RED.

  Args:
    place: of the large head, see shapes.traffic_light.
  """
  looks = {s: shapes.traffic_light(s, *place) for s in (RED, GREEN)}
  return Actor("traffic_light", (0.3, 0.5, 2.8), np.array(position, float),
               float(yaw), looks[state], type_id="traffic.traffic_light",
               state=state, trigger=trigger, looks=looks)


def scenery(mesh, extent, position, yaw=0.0):
  return Actor("scenery", extent, np.array(position, float), float(yaw), mesh,
               state="static")
