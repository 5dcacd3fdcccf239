"""The soak itself: victims that are killed, inspected and started again."""

import collections
import dataclasses
import json
import os
import shutil
import signal
import time

from data_pipeline import errors
from data_pipeline.miniworld import recorder
from launch import forks, victims

FRESH = 1 / 8  # share of starts with an interpreter of their own
COLD = 1 / 6  # share of trainings that compile anew
KILLS_EACH = 4, 9  # of one victim, before it may end
HANGS_S = 1800.0
POLL_S = 0.002
SPEAK_EVERY_S = 60.0
SCENES = ("TJunction", "ParkedObstacle", "DynamicObjectCrossing")
SAVE_S = 0.15  # after a save has begun, within which it is hit


@dataclasses.dataclass
class Found:
  """What happened. The lists hold a line for each promise that broke."""

  kills: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)  # (kind, phase) -> n
  starts: int = 0
  restarts: int = 0
  fresh: int = 0  # starts with an interpreter of their own
  finished: int = 0  # things that looked finished after a kill; all compared
  ends: int = 0
  identical: int = 0
  lost: list = dataclasses.field(default_factory=list)
  corrupt: list = dataclasses.field(default_factory=list)
  different: list = dataclasses.field(default_factory=list)
  failed: list = dataclasses.field(default_factory=list)

  def broken(self):
    return [f"{name}: {line}"
            for name in ("lost", "corrupt", "different", "failed")
            for line in getattr(self, name)]

  def by_phase(self):
    """{kind: {phase: kills}}."""
    rows = {}
    for (kind, phase), n in sorted(self.kills.items()):
      rows.setdefault(kind, {})[phase] = n
    return rows

  def as_json(self):
    values = dataclasses.asdict(self)
    return values | {"kills": self.kills.total(), "by_phase": self.by_phase()}

  def text(self):
    """For a person, one fact a line."""
    lines = [f"{kind:8} {sum(row.values()):4} kills: " + ", ".join(
        f"{n} during {phase}" for phase, n in row.items())
             for kind, row in self.by_phase().items()]
    return "\n".join([
        *lines, *self.broken(),
        f"soak: {self.kills.total()} kills, {self.restarts} restarts "
        f"({self.fresh} of {self.starts} starts by a fresh interpreter), "
        f"{self.finished} finished outputs found after a kill and compared",
        f"soak: {len(self.lost)} good checkpoints lost, {len(self.corrupt)} "
        f"corrupt outputs taken for good, {len(self.failed)} failed or hung, "
        f"{self.identical} of {self.ends} ends identical to the twin's"])


class Soak:
  """Twins first; then victims, as many at a time as there are cores."""

  def __init__(self, workdir, rng, kills, end, say=print):
    """Args as follows.

    workdir: empty folder. rng: random.Random. kills: how many, None for no
      bound. end: time.monotonic() after which nothing is killed. say: prints
      a line.
    """
    self._workdir, self._rng, self._end = workdir, rng, end
    self._say = say
    self._left = kills if kills is not None else float("inf")
    self._found, self._children, self._number = Found(), set(), 0
    self._twins, self._spans, self._spoken = {}, {}, time.monotonic()

  def run(self):
    """Found, when the time is up or all kills are done."""
    forks.preload()
    data = self._path("data")
    recorder.record(data, SCENES, range(1), range(9000, 9001), size=(64, 36),
                    max_frames=20, workers=1)
    try:
      for name in ("train", "prepare", ".pt", ".safetensors"):
        _drain(self._make_twin(name))
      self._attack_all()
    finally:
      for child in self._children:
        child.signal(signal.SIGKILL)
        child.wait()
    return self._found

  def _path(self, *names):
    return os.path.join(self._workdir, *names)

  def _victim(self, name, folder, cold=False, **more):
    """A victims.Victim; `name` as in `run`."""
    if name == "train":
      cache = folder + ".cache" if cold else self._path("cache")
      return victims.Training(folder, self._path("data"), cache, **more)
    if name == "prepare":
      return victims.Prepare(folder, self._path("data"))
    return victims.Export(folder, self._path("twins", "train"), name)

  def _make_twin(self, name):
    more = {"keep_last": 0} if name == "train" else {}
    twin = self._victim(name, self._path("twins", name), **more)
    yield from self._to_end(twin)
    if self._found.failed:
      raise errors.UserError(
          f"what nobody disturbed failed, too: {self._found.failed[0]}; mend "
          f"that first, the folder is {self._workdir}")
    self._twins[name] = yield from self._measured(twin.end)

  def _attack_all(self):
    active, slots = [], len(os.sched_getaffinity(0))
    while active or not self._over():
      while len(active) < slots and not self._over():
        active.append(self._attack(self._next_name()))
      for attack in list(active):
        if next(attack, self) is self:  # it is through
          active.remove(attack)
      time.sleep(POLL_S)
      if time.monotonic() - self._spoken > SPEAK_EVERY_S:
        self._spoken = time.monotonic()
        self._say(self._found.text().splitlines()[-2])

  def _over(self):
    return self._left <= 0 or time.monotonic() >= self._end

  def _next_name(self):
    """What was killed least."""
    kills = collections.Counter()
    for (kind, _), n in self._found.kills.items():
      kills[kind] += n
    kind = min(("train", "prepare", "export"), key=lambda k: (
        kills[k], self._rng.random()))
    return (self._rng.choice((".pt", ".safetensors"))
            if kind == "export" else kind)

  def _attack(self, name):
    """Kills a victim some times, lets it end, compares; yields to wait."""
    self._number += 1
    label, twin = f"{self._number}-{name.strip('.')}", self._twins[name]
    victim = self._victim(name, self._path(label, "out"),
                          cold=self._rng.random() < COLD)
    for _ in range(self._rng.randint(*KILLS_EACH)):
      if self._over():
        break
      self._left -= 1  # others are at it, too
      before, child = victim.good(), self._start(victim)
      yield from self._until_moment(victim, child)
      seen = max(before, victim.good())
      child.signal(signal.SIGKILL)
      if child.wait() != -signal.SIGKILL:
        self._left += 1
        break  # it had ended, see below
      self._found.kills[victim.kind, victim.phase(child)] += 1
      if victim.good() < seen or not victim.went_on(child, before):
        self._found.lost.append(f"{label}: {seen} finished, {victim.good()} "
                                f"after a kill; {_tail(child)}")
      if (yield from self._inspect(victim, label, twin)):
        break
      self._found.restarts += 1
    yield from self._let_end(victim, label, twin)

  def _inspect(self, victim, label, twin):
    """Compares what a kill left that looks finished; whether it is the end."""
    found = yield from self._measured(victim.finished)
    if found is None:
      return False
    self._found.finished += 1
    if not victim.same(found, twin):
      self._found.corrupt.append(f"{label}: {_difference(found, twin)}")
    return victim.kind == "export"

  def _let_end(self, victim, label, twin):
    """Starts a victim for the last time and compares its end."""
    if victim.kind != "export" or not victim.good():
      yield from self._to_end(victim)
    end = yield from self._measured(victim.end)
    self._found.ends += 1
    if end is not None and victim.same(end, twin):
      self._found.identical += 1
      shutil.rmtree(os.path.dirname(victim.folder))
    else:
      self._found.different.append(f"{label}: {_difference(end or {}, twin)}")

  def _to_end(self, victim):
    """Lets a process end; learns how long its phases last."""
    child, seen = self._start(victim), {}
    while child.running():
      now = time.monotonic() - child.began
      seen.setdefault(victim.phase(child), now)
      if now > HANGS_S:
        child.signal(signal.SIGKILL)
      yield
    if child.status:
      self._found.failed.append(
          f"{victim.folder}: status {child.status}; {_tail(child)}")
      return
    times = sorted(seen.values()) + [time.monotonic() - child.began]
    # What went by unseen, as near its end, keeps the length it had.
    spans = self._spans.setdefault(victim.kind, {})
    spans |= {
        phase: times[times.index(at) + 1] - at for phase, at in seen.items()}
    if "steps" in seen:  # saves lie between them
      spans |= {"steps": (times[-1] - seen["steps"]) / 3, "save": SAVE_S}

  def _until_moment(self, victim, child):
    """Waits for a random moment of a random phase, or the child's end."""
    names, weights = zip(*victim.moments.items())
    aim = self._rng.choices(names, weights)[0]
    spans = self._spans[victim.kind]
    ahead = set(names[:names.index(aim)])  # phases that come before it
    lag = 0.0
    if aim == "save":  # not always the first one
      ahead -= {"steps"}
      lag = self._rng.uniform(0, spans["steps"])
    yield from self._while(child, lambda: victim.phase(child) in ahead)
    yield from self._pause(child, lag)
    if aim == "save":
      yield from self._while(child, lambda: victim.phase(child) != "save")
    yield from self._pause(child, self._rng.uniform(0, spans.get(aim, 1.0)))

  def _pause(self, child, seconds):
    end = time.monotonic() + seconds
    yield from self._while(child, lambda: time.monotonic() < end)

  def _while(self, child, condition):
    while child.running() and condition():
      if time.monotonic() - child.began > HANGS_S:
        self._found.failed.append(f"{child.log}: hung; {_tail(child)}")
        return
      yield

  def _start(self, victim):
    fresh = self._rng.random() < FRESH
    child = victim.start(fresh)
    self._children.add(child)
    self._found.starts += 1
    self._found.fresh += fresh
    return child

  def _measured(self, function):
    """What `function` gives, found out by a fork: it may use threads."""
    self._number += 1
    path = self._path(f"measured-{self._number}")

    def write():
      with open(path, "w", encoding="utf-8") as file:
        json.dump(function(), file)

    child = forks.fork(write, path + ".log")
    self._children.add(child)
    while child.running():
      yield
    if child.status:
      self._found.failed.append(f"cannot be read: {_tail(child)}")
      return {"readable": False}
    with open(path, encoding="utf-8") as file:
      found = json.load(file)
    os.remove(path)
    os.remove(path + ".log")
    return found


def _drain(generator):
  for _ in generator:
    time.sleep(POLL_S)


def _difference(found, twin):
  names = [name for name in {**found, **twin}
           if found.get(name) != twin.get(name)]
  return f"{len(names)} differ, as {names[:3]}"


def _tail(child):
  return " | ".join(child.said().splitlines()[-4:])[-600:]
