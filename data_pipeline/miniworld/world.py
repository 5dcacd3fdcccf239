"""The embedded world behind one small interface.

  state = world.reset(scenario, seed)
  while not state.finished:
    images = world.cameras()
    state = world.step(Control(throttle, steer, brake))

Units and axes are CARLA's: metres, radians, x forward, y right, yaw growing
to the right. A tick is 0.05 s. Everything follows from (scenario, seed).
"""

import copy
import dataclasses
import math

import numpy as np

from data_pipeline.miniworld import (
  actors,
  ground,
  planner,
  render,
  scenarios,
  sight,
)

TICK = 0.05            # [s]
GRAVITY = 9.81         # [m/s^2]
SENSOR_X = -1.4        # GNSS and IMU sit behind the ego's origin [m]
GNSS_NOISE = 0.556     # 5e-6 degrees [m]
IMU_NOISE = 0.001
LIMIT = 1200           # ticks after which an episode ends
OUTSIDE = 0.5          # beside a lane that a car's middle may be, as in
                       # CARLA's OutsideRouteLanesTest [m]
RING = np.array([(0.0, 0.0), *((OUTSIDE * np.cos(t), OUTSIDE * np.sin(t))
                               for t in np.arange(8) * np.pi / 4)])   # [9,2]


@dataclasses.dataclass(frozen=True)
class Control:
  """CARLA's pedals: throttle and brake 0..1, steer -1..1, right positive."""

  throttle: float = 0.0
  steer: float = 0.0
  brake: float = 0.0


@dataclasses.dataclass(frozen=True)
class State:
  """What the sensors and the map say after a tick.

  Attributes:
    tick: number of ticks since the reset.
    position [2] m, heading rad (CARLA's yaw), speed m/s: exact.
    acceleration [3] m/s^2 with gravity, angular_velocity [3] rad/s: IMU.
    gnss [2] m: noisy, of a sensor 1.4 m behind the origin.
    compass: heading + pi/2 in [0, 2 pi).
    near, far: (x, y, command) of the next dense and sparse route nodes.
    progress: metres along the route. collisions: actors that the ego touches.
    off_road: its middle is farther than OUTSIDE from any road.
    finished: the end of the route, or the time limit.
  """

  tick: int
  position: np.ndarray
  heading: float
  speed: float
  acceleration: np.ndarray
  angular_velocity: np.ndarray
  gnss: np.ndarray
  compass: float
  near: tuple
  far: tuple
  progress: float
  collisions: tuple
  off_road: bool
  finished: bool


class World:
  """An episode: scene, ego, time, cameras and map queries."""

  def __init__(self, size=(320, 180)):
    """Args: size: width and height of the camera images [px]."""
    self.size = tuple(size)
    self.scene = self.ego = self.renderer = self.ground = self.seed = None

  def reset(self, scenario, seed):
    """Builds the scene of (scenario, seed) and returns its first State."""
    self.scene = scene = scenarios.build(scenario, seed)
    self.seed = seed
    self._noise = np.random.default_rng([seed, 1])
    self.ground = ground.Ground(scene.town, np.random.default_rng([seed, 2]),
                                 scene.soil, scene.tint)
    self.renderer = render.Renderer(self.ground, scene.look, self.size)
    for number, actor in enumerate(scene.actors):
      actor.id = 100 + number
    self.ego = actors.Ego(scene.road, scene.route.xy[0],
                          float(scene.route.heading[0]), scene.speed)
    scene.road.vehicles.append(self.ego)
    self._plans = (
        planner.Planner(planner.dense(scene.route), planner.NEAR_DISTANCE),
        planner.Planner(planner.sparse(scene.route), planner.FAR_DISTANCE))
    self._fixed = [a for a in scene.actors if a.state == "static"]
    self._moving = [a for a in scene.actors if a.state != "static"]
    self._still_life = _soup(self._fixed)
    self._boxes = sight.boxes(self._fixed)
    self._reach = np.array([_reach(a.extent) for a in self._fixed])
    self._lanes = {}
    self._tick, self.progress = 0, 0.0
    self._sight = self._lane = None
    self._state = self._sense(0.0, 0.0)
    return self._state

  def fork(self):
    """A World in the same state that goes on by itself.

    What never changes (ground, lanes, meshes, whoever stands for good) is
    shared, which makes it cheap.
    """
    town = self.scene.town
    shared = [self.ground, self.renderer, self.scene.route, town, town.network,
              *(town.network.get_lane(index) for index in town.names),
              self._still_life, *self._fixed, *(
                  mesh for a in self._moving
                  for mesh in (a.mesh, *a.looks.values()))]
    return copy.deepcopy(self, {id(x): x for x in shared})

  def step(self, control):
    """One tick of 0.05 s; returns the new State."""
    ego, scene = self.ego, self.scene
    speed, heading = ego.speed, ego.heading
    ego.drive(control.throttle, control.steer, control.brake, TICK)
    for body in scene.road.vehicles:
      body.act()
    for body in scene.road.vehicles:
      body.step(TICK)
    for actor in self._moving:
      actor.follow_body()
    for script in scene.scripts:
      script.update(self, TICK)
    self._tick += 1
    self._sight = self._lane = None
    self._state = self._sense((ego.speed - speed) / TICK,
                              (ego.heading - heading) / TICK)
    return self._state

  def state(self):
    """The State of the last tick."""
    return self._state

  def cameras(self):
    """{folder name: RGB uint8 [H,W,3]} of the six cameras, now."""
    return self.renderer.images(self._still_life.joined(_soup(self._moving)),
                                self.ego.position, self.ego.heading)

  def lane(self):
    """LaneName under the ego's origin; looked up once a tick, if at all."""
    if self._lane is None:
      self._lane = self.lane_at(self.ego.position, self.ego.heading)
    return self._lane

  def lane_at(self, position, heading):
    """LaneName of the lane nearest to a point."""
    return self.scene.town.lane_at(position, heading)[1]

  def lane_of(self, actor):
    """LaneName under an actor; looked up once for those that never move."""
    if actor.state != "static":
      return self.lane_at(actor.position, actor.yaw)
    if actor.id not in self._lanes:
      self._lanes[actor.id] = self.lane_at(actor.position, actor.yaw)
    return self._lanes[actor.id]

  def is_drivable(self, points):
    """[...,2] -> [...] bool: may wheels stand there?"""
    return self.ground.is_drivable(points)

  def ego_covers(self, point):
    """Is a world point [2] under the ego, or within 0.3 m of it?"""
    delta = point - self.ego.position
    cos, sin = np.cos(self.ego.heading), np.sin(self.ego.heading)
    along = abs(cos * delta[0] + sin * delta[1])
    aside = abs(cos * delta[1] - sin * delta[0])
    return bool(along < actors.EGO_EXTENT[0] + 0.3
                and aside < actors.EGO_EXTENT[1] + 0.3)

  def visible(self):
    """{actor id: imitated lidar points} of annotated actors within reach."""
    if self._sight is None:
      self._sight = self._look()
    return self._sight

  def _look(self):
    near = [a for a in self.scene.actors if a.kind != "scenery"
            and math.dist(a.position, self.ego.position) < sight.REACH]
    moving = [a for a in self._moving if a.kind == "vehicle"]
    boxes = tuple(np.concatenate(pair) for pair in zip(
        self._boxes, sight.boxes(moving)))
    ids = np.array([a.id for a in self._fixed + moving])
    targets = sight.boxes(near)
    same = np.array([[a.id] for a in near], int).reshape(-1, 1) == ids
    share = sight.visible_share(self.ego.position, self.ego.heading, targets,
                                boxes, same)
    points = sight.point_count(self.ego.position, targets, share)
    return {a.id: int(n) for a, n in zip(near, points)}

  def _sense(self, along, turn):
    """State from the ego's pose, its acceleration and its turn rate."""
    ego, rng = self.ego, self._noise
    direction = np.array([np.cos(ego.heading), np.sin(ego.heading)])
    gnss = (ego.position + SENSOR_X * direction
            + rng.normal(0.0, GNSS_NOISE, 2))
    imu = rng.normal(0.0, IMU_NOISE, 6)
    self.progress, _ = self.scene.route.project(ego.position, self.progress)
    return State(
        tick=self._tick, position=ego.position.copy(),  # pyright: ignore[reportAttributeAccessIssue]
        heading=float(np.arctan2(direction[1], direction[0])),
        speed=float(ego.speed),
        acceleration=np.array([along, ego.speed * turn, GRAVITY]) + imu[:3],
        angular_velocity=np.array([0.0, 0.0, turn]) + imu[3:], gnss=gnss,
        compass=float((ego.heading + np.pi / 2) % (2 * np.pi)),
        near=self._plans[0].target(gnss), far=self._plans[1].target(gnss),
        progress=self.progress,
        collisions=tuple(self._touched()),
        off_road=not bool(self.is_drivable(ego.position + RING).any()),
        finished=(self.progress >= self.scene.finish
                  or self._tick >= LIMIT))

  def _touched(self):
    """Actors whose box overlaps the ego's."""
    ego = self.ego.position
    near = [self._fixed[i] for i in np.flatnonzero(
        np.hypot(*(self._boxes[0][:, :2] - ego).T) < self._reach)]
    near += [a for a in self._moving
             if math.dist(a.position, ego) < _reach(a.extent)]
    if not near:
      return []
    corners = actors.Actor("vehicle", actors.EGO_EXTENT, ego, self.ego.heading,
                           None).footprint()
    return [actor for actor in near if actor.kind != "traffic_light"
            and overlap(corners, actor.footprint())]


def _reach(extent):
  """Distance [m] from the ego beyond which a box cannot touch it."""
  return (math.hypot(extent[0], extent[1])
          + math.hypot(actors.EGO_EXTENT[0], actors.EGO_EXTENT[1]))


def overlap(a, b):
  """Whether two rectangles [4,2] overlap (separating axes)."""
  for one in (a, b):
    for edge in (one[1] - one[0], one[2] - one[1]):
      p, q = a @ edge, b @ edge
      if p.max() < q.min() or q.max() < p.min():
        return False
  return True


def _soup(things):
  return render.Soup([a.shown.placed(a.position, a.yaw) for a in things],
                     [a.shown.colours for a in things],
                     [a.position for a in things])
