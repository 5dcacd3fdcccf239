"""Watches a drive: what went wrong, how far it came, what to write down.

Infractions have the names and weights of Bench2Drive's result files, and are
counted as CARLA's criteria count them (scenario_runner, atomic_criteria.py):
a red light when the tail passes the line, a stop sign when the middle does
without having stood, the road when the middle is 0.5 m beside it, a collision
when the car moves. Each actor is hit once at most; the drive goes on.
"""

import math

from data_pipeline.infractions import FACTORS, KINDS
from data_pipeline.miniworld import actors, names
from data_pipeline.miniworld import world as worlds

COLLISIONS = {"walker": "collisions_pedestrian",
              "vehicle": "collisions_vehicle"}
OTHERS = "collisions_layout"
STANDING = 0.1       # below this a car stands, and hits nobody [m/s]
BLOCKED_S = 20.0     # standing for so long ends the drive
DEVIATION = 30.0     # so far off the route, too [m]
STOP_WITHIN = 6.0    # of the line, or on it, one has to stop [m]
TAIL = 0.8 * actors.EGO_EXTENT[0]  # behind the middle; passes a red light
HELD_BEHIND = 20.0   # an emergency vehicle this near is held up [m],
HELD_SPEED = 0.6     # if it drives at less than this share of its wish,
HELD_S = 3.0         # for longer than this


class Referee:
  """Call watch(state) after every tick.

  Attributes:
    infractions: {kind: texts}, of all KINDS. ended: why the drive is over, or
      "".
  """

  def __init__(self, world):
    self._world, self.ended = world, ""
    self.infractions = {kind: [] for kind in KINDS}
    state = world.state()
    self._start = state.progress
    self._best = state.progress
    self._hit, self._stopped, self._held = set(), set(), 0.0
    self._outside, self._standing = 0.0, 0
    self._before = state.progress

  @property
  def completion(self):
    """Percent of the way to the finish."""
    way = self._world.scene.finish - self._start
    share = (self._best - self._start) / way
    return 100.0 if share >= 1.0 else max(100.0 * share, 0.0)

  def watch(self, state):
    """Takes note of a tick; afterwards `ended` may be set."""
    self._best = max(self._best, state.progress)
    for actor in state.collisions:
      if state.speed >= STANDING and actor.id not in self._hit:
        self._hit.add(actor.id)
        self._note(COLLISIONS.get(actor.kind, OTHERS), state,
                   f"hit {actor.type_id or 'scenery'} (id {actor.id})")
    if state.off_road:
      self._outside += max(state.progress - self._before, 0.0)
    self._watch_lines(state)
    self._before = max(self._before, state.progress)
    self._watch_emergency(state)
    self._watch_end(state)

  def _note(self, kind, state, text):
    x, y = state.position
    self.infractions[kind].append(
        f"{text} at x {x:.2f}, y {y:.2f}, {state.tick * worlds.TICK:.2f} s")

  def _watch_lines(self, state):
    for line in self._world.scene.lines:
      if line.is_stop:
        to_go = line.s - state.progress
        if state.speed < STANDING and (
            0 <= to_go < STOP_WITHIN + actors.EGO_EXTENT[0]):
          self._stopped.add(line)
        if self._passes(line.s, state) and line not in self._stopped:
          self._note("stop_infraction", state, "did not stop at the sign")
      elif (self._passes(line.s + TAIL, state)
            and line.actor.state == actors.RED):
        self._note("red_light", state, "passed a red light")

  def _passes(self, s, state):
    """Whether the car's middle comes to s metres of the route for the first
    time."""
    return self._before < s <= state.progress

  def _watch_emergency(self, state):
    actor = self._world.scene.makes_way_for
    kind = "yield_emergency_vehicle_infractions"
    if actor is None or self.infractions[kind]:
      return
    route = self._world.scene.route
    s, aside = route.project(actor.position)
    _, own = route.project(state.position, state.progress)
    near = 0.0 < state.progress - s < HELD_BEHIND
    slow = actor.speed < HELD_SPEED * actor.body.target_speed
    if near and slow and abs(aside - own) < 1.75:
      self._held += worlds.TICK
    if self._held > HELD_S:
      self._note(kind, state, f"held {actor.type_id} up")

  def _watch_end(self, state):
    self._standing = self._standing + 1 if state.speed < STANDING else 0
    _, aside = self._world.scene.route.project(state.position)
    if self.completion >= 100.0:
      self.ended = "Completed"
    elif abs(aside) > DEVIATION:
      self._note("route_dev", state, "left the route")
      self.ended = "Failed - Agent deviated from the route"
    elif self._standing * worlds.TICK >= BLOCKED_S:
      self._note("vehicle_blocked", state, "stood still")
      self.ended = "Failed - Agent got blocked"
    elif state.tick >= worlds.LIMIT:
      self._note("route_timeout", state, "took too long")
      self.ended = "Failed - Agent timed out"

  def record(self, seed):
    """The drive as one of the records of a Bench2Drive result file."""
    scene, state = self._world.scene, self._world.state()
    lists, penalty = {k: list(v) for k, v in self.infractions.items()}, 1.0
    way = max(self._best - self._start, 1e-6)
    share = round(100.0 * min(self._outside / way, 1.0), 2)
    if share > 0:
      lists["outside_route_lanes"].append(
          f"off the road for {self._outside:.2f} m, {share:.2f}% of the way")
      penalty *= 1.0 - share / 100.0
    for kind, factor in FACTORS.items():
      penalty *= factor ** len(lists[kind])
    count = sum(map(len, lists.values()))
    status = self.ended
    if status == "Completed" and not count:
      status = "Perfect"
    number, kind = names.number(scene.kind, seed), names.on_routes(scene.kind)
    route, seconds = self.completion, state.tick * worlds.TICK
    return {
        "route_id": f"RouteScenario_{number}_rep0",
        "scenario_name": f"{kind}_1", "weather_id": scene.weather,
        "save_name": f"{number}_{scene.kind}", "status": status,
        "num_infractions": count, "infractions": lists,
        "scores": {"score_route": round(route, 6),
                   "score_penalty": round(penalty, 6),
                   "score_composed": round(max(route * penalty, 0.0), 6)},
        # Simulated seconds for both: files must not depend on the machine.
        "meta": {"route_length": round(scene.finish - self._start, 3),
                 "duration_game": round(seconds, 3),
                 "duration_system": round(seconds, 3)},
        "town_name": f"Town{scene.town_id}"}


def motion(state):
  """A tick as metric_info.json tells it: CARLA's axes, turn rates in deg/s."""
  cos, sin = math.cos(state.heading), math.sin(state.heading)
  along, across, _ = state.acceleration
  return {
      "acceleration": [float(cos * along - sin * across),
                       float(sin * along + cos * across), 0.0],
      "angular_velocity": [0.0, 0.0, math.degrees(state.angular_velocity[2])],
      "forward_vector": [cos, sin, 0.0], "right_vector": [-sin, cos, 0.0],
      "location": [float(state.position[0]), float(state.position[1]), 0.0],
      "rotation": [0.0, 0.0, math.degrees(state.heading)]}
