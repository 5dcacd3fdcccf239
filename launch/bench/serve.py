"""Driving: the policy's step, image preparation, the server and its company.

With random parameters, for neither speed nor memory depends on what was
learned. The server runs in a process of its own; what it adds to the step is
the time a client waits less the time that the policy computed.
"""

import concurrent.futures
import contextlib
import multiprocessing
import time

import numpy as np
import psutil

from data_pipeline import errors, sensor_images, spec
from launch import cli, flags
from launch.bench import rows, soak

WARMUP = 5
LIMITS_MS = {"policy step": 50.0, "six cameras": 60.0, "server": 5.0}
CAMERA_SIZE = (1600, 900)
LOOK_EVERY_S = 2.0


def add_arguments(parser):
  parser.add_argument("--config", default="configs/tiny.py",
                      help="whose model is served; override with "
                      "--config.key=value")
  parser.add_argument("--calls", type=int, default=100,
                      help="timed calls of each kind")
  parser.add_argument("--threads", type=int, default=2,
                      help="that prepare images")
  parser.add_argument("--clients", type=int, default=8, help="of the soak")
  parser.add_argument("--soak", type=float, metavar="MINUTES",
                      help="instead: as many clients ask for so long, tell "
                      "errors and how memory grows")


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", ...}."""
  flags.check_positive(args, "calls", "threads", "clients")
  about = {"machine": rows.machine(), "config": args.config,
           "overrides": args.overrides}
  with served(args, say) as (process, policy):
    if args.soak:
      return about | _soak(args, process, policy, say)
    return about | _time(args, policy, say)


def _time(args, policy, say):
  """The three rows of one driver."""
  say("bench: timing the server")
  waited, inside = [], []
  for step in range(args.calls + WARMUP):
    observation = observe(policy.metadata, step)
    start = time.perf_counter()
    answer = policy.plan(observation)
    waited.append(1e3 * (time.perf_counter() - start))
    inside.append(answer["server_timing"]["infer_ms"])
  waited, inside = np.array(waited[WARMUP:]), np.array(inside[WARMUP:])
  say("bench: timing the cameras")
  prepared = prepare_times(args, policy.metadata["image_size"])
  found = [rows.make("policy step", inside),
           rows.make("plan through the server", waited,
                     floor_ms=float(np.median(inside))),
           rows.make("server's share", waited - inside),
           rows.make("six cameras prepared", prepared)]
  ok = (found[0]["p95_ms"] <= LIMITS_MS["policy step"]
        and found[2]["median_ms"] <= LIMITS_MS["server"]
        and found[3]["p95_ms"] <= LIMITS_MS["six cameras"])
  return {"rows": found, "ok": ok, "limits_ms": LIMITS_MS}


def prepare_times(args, size):
  """Times of preparing six frames of the embedded world [ms]."""
  from data_pipeline.miniworld import world as worlds
  world = worlds.World(CAMERA_SIZE)
  world.reset("ParkedObstacle", 0)
  frames = [np.dstack([image[..., ::-1], np.full(image.shape[:2], 255,
                                                 np.uint8)])
            for image in world.cameras().values()]
  prepare = sensor_images.Preparer(size, threads=args.threads)
  times = []
  for _ in range(args.calls + WARMUP):
    start = time.perf_counter()
    prepare(frames)
    times.append(1e3 * (time.perf_counter() - start))
  prepare.close()
  return times[WARMUP:]


def _soak(args, process, policy, say):
  """All clients ask at once; each answer is compared with the first one."""
  seconds = 60 * args.soak
  say(f"bench: {args.clients} clients for {seconds:.0f} s")
  expected = {step: policy.plan(observe(policy.metadata, step))["actions"]
              for step in range(args.clients)}
  end, looks = time.monotonic() + seconds, {"seconds": [], "bytes": []}
  with concurrent.futures.ThreadPoolExecutor(args.clients) as pool:
    clients = [pool.submit(_ask_on, policy, step, expected[step], end)
               for step in expected]
    while not looks["seconds"] or time.monotonic() < end:
      looks["seconds"].append(seconds - end + time.monotonic())
      looks["bytes"].append(process.memory_info().rss)
      time.sleep(LOOK_EVERY_S)
    results = [client.result() for client in clients]
  times = [t for found, _ in results for t in found]
  faults = [fault for _, found in results for fault in found]
  slope = soak.slope_mb_per_minute(looks["seconds"], looks["bytes"])
  return {"rows": [rows.make(f"plan for one of {args.clients} clients", times,
                             peak_bytes=max(looks["bytes"]))],
          "ok": not faults and slope <= soak.LIMIT_MB_PER_MINUTE,
          "plans": len(times), "faults": faults[:20], "soak": looks,
          "slope_mb_per_minute": slope,
          "remarks": [f"{len(times)} plans in {seconds:.0f} s, {len(faults)} "
                      f"faults, server memory {slope:+.2f} MB a minute"]}


def _ask_on(policy, step, expected, end):
  """One client: (times [ms], what went wrong)."""
  from launch.carla import remote
  times, faults = [], []
  link = remote.RemotePolicy(policy.url, timeout_s=60.0)
  observation = observe(policy.metadata, step)
  while not times and not faults or time.monotonic() < end:
    start = time.perf_counter()
    try:
      actions = link.plan(observation)["actions"]
    except (remote.Unavailable, remote.Refused) as fault:
      faults.append(str(fault))
      continue
    times.append(1e3 * (time.perf_counter() - start))
    # Batches of other sizes round otherwise; another car's plan is far off.
    if not np.allclose(actions, expected, atol=1e-3):
      faults.append(f"client {step} got another's plan")
  link.close()
  return times, faults


def observe(metadata, step):
  """An observation of noise for a policy of these metadata."""
  rng, side = np.random.default_rng(step), metadata["image_size"]
  return {"images": rng.integers(0, 256, (len(spec.IMAGES), side, side, 3),
                                 np.uint8),
          "proprio": rng.standard_normal((metadata["history"], 10), np.float32),
          "step": step}


@contextlib.contextmanager
def served(args, say):
  """(psutil.Process of a server, RemotePolicy connected to it)."""
  from launch.carla import remote
  context = multiprocessing.get_context("spawn")
  ours, theirs = context.Pipe()
  child = context.Process(target=_serve, args=(
      theirs, args.config, args.overrides, args.clients), daemon=True)
  say("bench: compiling the policy")
  child.start()
  theirs.close()
  try:
    url = f"ws://127.0.0.1:{ours.recv()}"
  except EOFError:
    raise errors.ConfigError(
        f"the server for {args.config} did not start; see above") from None
  try:
    policy = remote.RemotePolicy(url, timeout_s=60.0)
    policy.wait(10.0)
    yield psutil.Process(child.pid), policy
    policy.close()
  finally:
    ours.close()
    child.join(20)


def _serve(pipe, path, overrides, clients):
  """Runs in the new process: a random policy until the pipe closes."""
  from drivemoe_jax import serve
  policy = random_policy(path, overrides)
  policy.warmup(clients)
  limits = serve.Limits(batch=clients, clients=clients + 1, rate_hz=1e4)
  with serve.in_background(serve.Server(policy, limits=limits)) as port:
    pipe.send(port)
    with contextlib.suppress(EOFError):
      pipe.recv()


def random_policy(path, overrides=()):
  """A policy.Policy of a config's model with random parameters."""
  import jax

  from data_pipeline import normalize
  from drivemoe_jax import build, policy
  from drivemoe_jax import step as steps
  config = cli.load_config(path, overrides)
  model, rng = build.model(config), np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: 0.02 * rng.standard_normal(x.shape, np.float32),
      steps.param_shapes(model))
  return policy.Policy(model, params, normalize.OFFICIAL_H10,
                       prompt_ids=config.prompt_ids, steps=config.flow.steps,
                       clip=config.flow.clip)
