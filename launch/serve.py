r"""Serves a trained run's plans to simulators in another Python.

python -m launch.serve --workdir runs/stage2
python -m launch.serve --workdir runs/stage2 --host 0.0.0.0 --api-key-file KEY

Speaks openpi's websocket protocol; `launch/carla/agent.py` and openpi-client
are clients, `GET /healthz` tells whether it is up. Everything is compiled
before it listens. Several simulators may share a server: what they ask at the
same time is planned in one batch. Ends at SIGTERM or Ctrl-C.
"""

import asyncio
import logging
import signal
import sys

from data_pipeline import errors, wire
from drivemoe_jax import build, policy, serve
from launch import cli, flags

LOCAL = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser):
  parser.add_argument("--workdir", required=True, help="run folder")
  flags.add_sampling(parser)
  parser.add_argument("--host", default="127.0.0.1",
                      help="address to listen on; others than this machine's "
                      "own need --api-key-file")
  parser.add_argument("--port", type=int, default=8000,
                      help="0 takes a free one")
  parser.add_argument("--api-key-file", metavar="FILE",
                      help="its first line is the key that clients must send")
  parser.add_argument("--seed", type=int, default=0, help="of the noise")
  parser.add_argument("--max-batch", type=int, default=8, metavar="N",
                      help="observations planned together; 1 makes plans "
                      "independent of other clients to the last bit")
  parser.add_argument("--max-clients", type=int, default=32, metavar="N")
  parser.add_argument("--max-rate", type=float, default=100.0, metavar="HZ",
                      help="messages a second of one client; more wait")
  parser.add_argument("--augment", action="store_true",
                      help="get ready for agents with official_parity")


def run(args):
  flags.check_positive(args, "max_batch", "max_clients", "max_rate")
  flags.check_sampling(args)
  if not 0 <= args.port < 2**16:
    raise errors.ConfigError(f"--port {args.port}: must lie in 0 to 65535")
  api_key = wire.read_key(args.api_key_file) if args.api_key_file else None
  if args.host not in LOCAL and api_key is None:
    raise errors.ConfigError(
        f"--host {args.host} lets other machines in; give --api-key-file, or "
        "listen on 127.0.0.1")
  logging.basicConfig(level=logging.INFO, format="serve: %(message)s")
  logging.getLogger("websockets").setLevel(logging.ERROR)
  planner = policy.Policy.of_run(
      build.load_run(args.workdir, args.step), steps=args.steps,
      noise_scale=args.noise_scale, seed=args.seed)
  seconds = planner.warmup(args.max_batch, augment=args.augment)
  print(f"serve: compiled in {seconds:.0f} s", file=sys.stderr, flush=True)
  server = serve.Server(
      planner, host=args.host, port=args.port, api_key=api_key,
      limits=serve.Limits(batch=args.max_batch, clients=args.max_clients,
                          rate_hz=args.max_rate))
  try:
    asyncio.run(_until_told(server, args.host))
  except OSError as error:
    raise errors.ConfigError(
        f"cannot listen on {args.host}:{args.port} ({error.strerror}); is "
        "another server running? choose another --port") from None


async def _until_told(server, host):
  task = asyncio.current_task()
  loop = asyncio.get_running_loop()
  for name in (signal.SIGINT, signal.SIGTERM):
    loop.add_signal_handler(name, task.cancel)
  ready = lambda port: print(f"serve: listening on ws://{host}:{port}",
                             flush=True)
  try:
    await server.run(ready)
  except asyncio.CancelledError:
    print("serve: done", flush=True)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
