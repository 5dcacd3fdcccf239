"""`launch.evaluate --closed-loop`: drives in the embedded world.

The policy is this process's, or a server's (--against); simulators run in
other processes. What is finished is kept, so that the same command goes on
after a kill and costs nothing once all is there.
"""

import collections.abc
import contextlib
import dataclasses
import logging
import os
import sys

from data_pipeline import errors, ticks, wire, writing
from data_pipeline.miniworld import drivers, episode, film, names, recorder
from drivemoe_jax import build, checkpoint, policy, serve
from drivemoe_jax.evaluators.closed_loop import robustness, runner, summary
from drivemoe_jax.report import robustness as plots
from launch import cli, flags
from launch.carla import remote

WORKER = "launch.drive_worker"
WAIT_S = 10.0        # for a server
SIZE = (320, 180)    # of pictures where the run does not tell [px]
# Flags that drive, that do not, and that a policy server has of its own.
LOOP = ("episodes", "scenarios", "first_seed", "workers", "against",
        "api_key_file", "robustness", "film")
OPEN = ("split", "batch_size", "limit", "report")
OURS = ("step", "steps", "noise_scale", "seed")


def add_arguments(parser):
  """The flags of --closed-loop, in a group."""
  group = parser.add_argument_group("closed loop in the embedded world")
  group.add_argument("--closed-loop", action="store_true",
                     help="drive instead; writes WORKDIR/closed_loop")
  group.add_argument("--episodes", type=int, metavar="N",
                     help="drives of each driver; default: ten seeds of every "
                     "scenario")
  group.add_argument("--scenarios", nargs="+", metavar="TYPE",
                     help="scenario types; default: all")
  group.add_argument("--first-seed", type=int, metavar="N",
                     help=f"of the scenes; default: {names.FIRST_TEST_SEED}")
  group.add_argument("--workers", type=int, metavar="N",
                     help="processes that simulate; 1: this one alone; "
                     "default: 2")
  group.add_argument("--against", metavar="HOST:PORT",
                     help="plans of a policy server (start it with --max-batch "
                     "1 to have them to the last bit)")
  group.add_argument("--api-key-file", metavar="FILE",
                     help="its first line is the server's key")
  group.add_argument("--robustness", action="store_true",
                     help="drive all of it once more under each of 15 "
                     "disturbances; writes WORKDIR/robustness.{json,png}")
  group.add_argument("--film", metavar="FILE",
                     help="film the first drive: FILE.gif or FILE.mp4")


def check(args):
  """Refuses flags that would have no effect."""
  if args.compare:
    flags.refuse(args, ("closed_loop", *OPEN, *OURS),
                 "is not for --compare, which opens no run")
  if not args.closed_loop:
    flags.refuse(args, LOOP, "is for --closed-loop: give it, too")
    return
  flags.refuse(args, OPEN, "is not for --closed-loop: leave one of them out")
  if args.against:
    flags.refuse(args, OURS, "is the server's when --against asks one: give it "
                 "to launch.serve")
  elif args.api_key_file:
    raise errors.ConfigError("--api-key-file is for --against: give it, too")


def run(args):
  flags.default(args, first_seed=names.FIRST_TEST_SEED, workers=2, seed=0)
  flags.check_positive(args, "episodes", "workers")
  flags.check_sampling(args)
  wanted = runner.episodes(args.episodes, args.scenarios, args.first_seed)
  size = _size(args.workdir)
  team = film.Film(args.film, size) if args.film else None
  found, disturbed = {}, {}
  with _asked(args) as pilot:
    drive = _Drive(pilot, os.path.join(args.workdir, "closed_loop"), wanted,
                   size, recorder.QUALITY, args.workers)
    found[pilot.kind] = drive.policy()
    if team:
      with team:
        drive.film(team, found[pilot.kind][0])
      print(f"film: {args.film}", file=sys.stderr)
    for kind, level in robustness.SWEEP if args.robustness else ():
      disturbed[kind, level] = summary.summarise(
          drive.policy((kind, level)), wanted)
  for yardstick in drivers.YARDSTICKS:
    found[yardstick] = drive.yardstick(yardstick)
  result = {"seeds": sorted({seed for _, seed in wanted}),
            "checkpoint_step": pilot.metadata["checkpoint_step"],
            "drivers": {who: summary.summarise(records, wanted)
                        for who, records in found.items()}}
  cli.write_json(os.path.join(args.workdir, "closed_loop.json"), result)
  told = [summary.table(result["drivers"])]
  said = {"closed_loop": result}
  if args.robustness:
    sweep = robustness.gather(result["drivers"][pilot.kind], disturbed)
    said["robustness"] = sweep
    cli.write_json(os.path.join(args.workdir, "robustness.json"), sweep)
    picture = os.path.join(args.workdir, "robustness.png")
    with writing.replacing(picture) as part:
      plots.plot(sweep, part)
    told.append(robustness.table(sweep))
  print("\n\n".join(told), file=flags.words(args))
  flags.write_json(args, said)


def drives_of(run, wanted, size, quality, workers, progress=None):
  """Has a run's policy drive scenes, for a recorder to take over from it.

  Args:
    run: its folder, or FOLDER@STEP. wanted: [(type, seed)].
    size, quality: of the pictures [px], 20..95.
    workers: processes; where there are several one more, since each waits for
      its plans a third of the time.
    progress: called with (done, total, what).

  Returns:
    the folder of the drives, which end at their first infraction, below
    FOLDER/drives; finished ones are kept.
  """
  workdir, step = checkpoint.split_source(run)
  workers += workers > 1
  with _loaded(workdir, step, workers) as pilot:
    root = os.path.join(workdir, "drives")
    _Drive(pilot, root, wanted, size, quality, workers, progress,
           until_fault=True).policy()
    return os.path.join(root, pilot.folder)


@dataclasses.dataclass(frozen=True)
class _Pilot:
  """Whose plans drive.

  Attributes:
    kind: "model", or "served" by another process.
    metadata: as of policy.Policy. ask: observation -> plan.
    url, key_file: where children of this process ask; no url where there are
      none.
  """

  kind: str
  metadata: dict
  ask: collections.abc.Callable
  url: str | None = None
  key_file: str | None = None

  @property
  def folder(self):
    """Of its drives."""
    return f"{self.kind}-{self.metadata['checkpoint_step']}"


class _Drive:
  """Has drivers drive what is wanted, here or in children."""

  def __init__(self, pilot, root, wanted, size, quality, workers,
               progress=None, until_fault=False):
    self._pilot, self._root, self._wanted = pilot, root, wanted
    self._size, self._quality, self._workers = size, quality, workers
    self._side = drivers.check(pilot.metadata)
    self._progress, self._until_fault = progress, until_fault

  def policy(self, disturbed=None):
    """Records of the policy's drives."""
    pilot, folder = self._pilot, self._pilot.folder
    if disturbed:
      folder += "-{}-{}".format(*disturbed)
    identity = {"driver": pilot.metadata, "size": list(self._size),
                "quality": self._quality, "disturbed": disturbed}
    job = {"driver": "policy", "server": pilot.url,
           "key_file": pilot.key_file, "image_size": self._side,
           "quality": self._quality, "size": list(self._size),
           "disturbed": disturbed}
    if self._until_fault:
      identity["until_fault"] = job["until_fault"] = True
    return self._run(folder, identity, job, self._make(disturbed),
                     pilot.url is None)

  def yardstick(self, name):
    """Records of a yardstick's drives."""
    job = {"driver": name, "size": list(self._size)}
    return self._run(name, {"driver": name}, job, drivers.YARDSTICKS[name],
                     self._workers == 1)

  def film(self, team, record):
    """Drives the first episode again, with a camera team."""
    kind, seed = self._wanted[0]
    again = episode.drive(kind, seed, self._make(None), self._size,
                          team.watch)
    if again["record"] != record:
      raise errors.NumericsError(
          f"the filmed drive of {kind} {seed} is not the one in the results; "
          "was the policy changed meanwhile? move them away and drive anew")

  def _make(self, disturbed):
    return lambda world: drivers.Policy(
        world, self._pilot.ask, self._side, self._quality, disturbed)

  def _run(self, name, identity, job, make, here):
    folder = os.path.join(self._root, name)
    drive_all = (runner.here(folder, make, self._size, self._until_fault)
                 if here else
                 runner.in_children(folder, job, self._workers, WORKER))
    told = self._progress or (lambda done, total, what: print(
        f"evaluate: {name} {done}/{total} {what}", file=sys.stderr, flush=True))
    return runner.run(folder, identity, self._wanted, drive_all, told)


@contextlib.contextmanager
def _asked(args):
  """The _Pilot that the flags name."""
  if not args.against:
    with _loaded(args.workdir, args.step, args.workers, steps=args.steps,
                 noise_scale=args.noise_scale, seed=args.seed) as pilot:
      yield pilot
    return
  url = f"ws://{args.against}"
  key = wire.read_key(args.api_key_file) if args.api_key_file else None
  server = remote.RemotePolicy(url, key, timeout_s=600.0)
  try:
    server.wait(WAIT_S)
  except ticks.Fault as fault:
    raise errors.PeerError(f"{fault}; start launch.serve there") from None
  with contextlib.closing(server):
    yield _Pilot("served", server.metadata, server.plan, url,
                 args.api_key_file)


@contextlib.contextmanager
def _loaded(workdir, step, workers, **settings):
  """The _Pilot of a run's step; settings: of policy.Policy.of_run."""
  planner = policy.Policy.of_run(build.load_run(workdir, step), **settings)
  here = _Pilot("model", planner.metadata,
                lambda observation: planner.plan([observation])[0])
  with _quiet("data_pipeline"):
    if workers == 1:
      yield here
      return
    # One by one: a plan must not depend on who else asks.
    limits = serve.Limits(batch=1, clients=workers + 1, rate_hz=1e6)
    with serve.in_background(serve.Server(planner, limits=limits)) as port:
      yield dataclasses.replace(here, url=f"ws://127.0.0.1:{port}")


@contextlib.contextmanager
def _quiet(name):
  """Without the warnings of a logger, which a thousand plans would repeat."""
  logger = logging.getLogger(name)
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)


def _size(workdir):
  """(width, height) of the pictures that a run learnt from."""
  record = build.load_config(workdir).data.record
  return (record.width_px, record.height_px) if record else SIZE
