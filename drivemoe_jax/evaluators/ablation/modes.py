"""The two-mode scene: do a driver's plans take a side, or the middle?

Road works stand free between two lanes. The expert passes them left or right by
a coin that nobody sees; both drives are equal up to the tick at which it
swerves, and 2.5 m apart after 0.9 s. There, from the same pictures, a policy is
asked for many plans. Axes: K plans, H rows of 0.1 s, T ticks.
"""

import numpy as np

from data_pipeline import navigation, spec, ticks
from data_pipeline.miniworld import drivers, expert, names, planner
from data_pipeline.miniworld import world as worlds

KIND = "ConstructionObstacle"
LEFT, RIGHT = -1, 1
SAME = 1e-6          # m, rad between two drives that are still one
ROWS = 10            # of a mode, as long as a plan
BETWEEN = (1 / 3, 2 / 3)  # of the way from the left mode's end to the right's


def seeds(count):
  """The first test seeds whose scene has two modes."""
  return [names.FIRST_TEST_SEED + 2 * i for i in range(count)]


def drive(seed, side, size=(64, 36)):
  """Poses (x, y, heading) of the expert that passes on one side: [T,3]."""
  world = worlds.World(size)
  state = world.reset(KIND, seed)
  world.scene.bypass_side = side
  driver, poses = expert.Expert(world), []
  while not state.finished:
    poses.append((*state.position, state.heading))
    state = world.step(driver.control())
  return np.array(poses)


def fork(left, right):
  """The last tick at which two drives [T,3] are still one."""
  count = min(len(left), len(right))
  apart = np.abs(left[:count] - right[:count]).max(1) > SAME
  return int(apart.argmax()) - 1 if apart.any() else None


def scene(seed):
  """What is known of a two-mode scene before anybody plans.

  Returns:
    {seed, tick, left, right: [ROWS,2] m of the modes, works [2] m: the sign
    before the road works}, all seen from the car at that tick; None where the
    expert swerves before a policy can plan.
  """
  left, right = drive(seed, LEFT), drive(seed, RIGHT)
  tick = fork(left, right)
  last = (tick or 0) + (ROWS - 1) * ticks.PLAN_EVERY
  if tick is None or tick < ticks.TICKS or last >= min(len(left), len(right)):
    return None
  rows = slice(tick, last + 1, ticks.PLAN_EVERY)
  world = worlds.World((64, 36))
  world.reset(KIND, seed)
  works = np.asarray(world.scene.triggers[0].position)         # [2]
  *position, heading = left[tick]
  seen = lambda points: navigation.to_ego(points, position, heading)
  return {"seed": seed, "tick": tick, "left": seen(left[rows, :2]),
          "right": seen(right[rows, :2]), "works": seen(works)}


def observe(seed, tick, image_size, quality, size):
  """What a policy sees at a tick of the expert's drive, see policy.Policy.

  Args:
    seed, tick: as scene() gives them. image_size: of the policy [px].
    quality, size: of the camera pictures, as in its recordings.
  """
  world = worlds.World(size)
  state = world.reset(KIND, seed)
  driver = expert.Expert(world)
  nodes, _ = planner.sparse(world.scene.route)
  buffer, look = ticks.Buffer(drivers.REFERENCE, nodes), {}
  while True:
    buffer.add(ticks.Reading(
        drivers.REFERENCE.to_gps(*state.gnss), state.compass, state.speed,
        state.acceleration, state.angular_velocity))
    lag = tick - state.tick
    if lag in (0, ticks.PLAN_EVERY):
      look[lag] = {name: drivers.prepare(pixels, image_size, quality)
                   for name, pixels in world.cameras().items()}
    if not lag:
      return {"images": np.stack([
          look[ticks.PLAN_EVERY if before else 0][name]
          for name, before in spec.IMAGES]),                   # [7,S,S,3]
          "proprio": buffer.proprio(), "step": tick}
    state = world.step(driver.control())


def shares(plans, left, right):
  """Where plans end, across the way between the ends of the two modes.

  Args:
    plans: [K,H,2] m. left, right: [ROWS,2] m.

  Returns:
    {left, between, right}: shares of the K plans, a third of the way each;
    beyond an end counts as that side.
  """
  row = min(plans.shape[1], ROWS) - 1
  a, b = left[row], right[row]
  place = (plans[:, row] - a) @ (b - a) / ((b - a) @ (b - a))  # [K]
  low, high = BETWEEN
  return {"left": float((place < low).mean()),
          "between": float(((place >= low) & (place <= high)).mean()),
          "right": float((place > high).mean())}
