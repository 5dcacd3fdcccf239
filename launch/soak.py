r"""Kills training, prepare and export at random; the ends must be the same.

python -m launch.soak --minutes 20
python -m launch.soak --minutes 60 --kills 500 --seed 3 --json soak.json

Each of the three runs in miniature, in processes of its own, and is killed
(SIGKILL) at random moments of its start, its work and its writing, started
again, and at last left to end. What is finished after a kill, and the end, is
held bit by bit against a twin that nobody disturbed. Exit 1 if a finished
checkpoint was lost, something half-written was taken for good, or an end
differs. Runs on the CPU.
"""

import os
import random
import shutil
import sys
import tempfile
import time

from data_pipeline import errors
from launch import attack, cli, flags


def add_arguments(parser):
  parser.add_argument("--minutes", type=float, required=True)
  parser.add_argument("--kills", type=int, metavar="N",
                      help="stop after so many, if the time is not up before")
  parser.add_argument("--seed", type=int, default=0,
                      help="of what is killed, and when")
  parser.add_argument("--workdir", metavar="DIR",
                      help="folder for the runs, kept; default: a temporary "
                      "one, kept if a promise was broken")
  flags.add_json(parser, "the counts")


def run(args):
  if args.minutes <= 0 or (args.kills is not None and args.kills < 1):
    raise errors.ConfigError(
        f"--minutes {args.minutes:g}, --kills {args.kills}: both must be "
        "positive")
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 "
                        "--xla_llvm_disable_expensive_passes=true")
  workdir = os.path.abspath(
      args.workdir or tempfile.mkdtemp(prefix="drivemoe_jax_soak_"))
  if args.workdir and os.path.exists(workdir) and os.listdir(workdir):
    raise errors.ConfigError(
        f"--workdir {args.workdir} is not empty; name a new folder")
  start, words = time.monotonic(), flags.words(args)
  say = lambda line: print(line, file=words, flush=True)
  found = attack.Soak(workdir, random.Random(args.seed), args.kills,
                      start + 60 * args.minutes, say).run()
  broken = found.broken()
  say(found.text())
  flags.write_json(args, {"ok": not broken, "seed": args.seed,
                          "minutes": (time.monotonic() - start) / 60,
                          **found.as_json()})
  if broken and not args.workdir:
    say(f"soak: the runs are kept in {workdir}")
  elif not args.workdir:
    shutil.rmtree(workdir)
  return int(bool(broken))


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
