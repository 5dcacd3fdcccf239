r"""Trains a run, or goes on with one.

python -m launch.train --config configs/tiny.py --workdir runs/tiny
python -m launch.train --config configs/stage1.py:routing=token \
    --workdir runs/a --config.optim.action_lr=1e-4 --config.seed=1
python -m launch.train --config configs/stage1.py --dry-run --json -

The working directory is the run: start the same command again after a kill.
SIGTERM saves and exits with 75. --dry-run opens nothing and prints the
resolved config, the mesh and the parameters; with --explain also how each of
them is split and what a device holds of it. On several hosts start the same
command on each, with the flags that say who is who (docs/pods.md).
"""

import contextlib
import sys

from data_pipeline import errors
from drivemoe_jax import preemption, resume
from launch import cli, flags, pod


def add_arguments(parser):
  flags.add_config(parser)
  parser.add_argument("--workdir", help="folder of the run")
  parser.add_argument("--dry-run", action="store_true",
                      help="print what would be trained and stop")
  parser.add_argument("--explain", action="store_true",
                      help="with --dry-run: parameter, split, bytes per device")
  flags.add_json(parser, "what --dry-run finds")
  parser.add_argument("--accept-change", metavar="NAMES",
                      help="go on with another data, seed or global_batch "
                      "(comma-separated); the change is recorded")
  pod.add_arguments(parser)


def run(args):
  config = cli.load_config(args.config, args.overrides)
  accepted = resume.names(args.accept_change)
  if args.json and not args.dry_run:
    raise errors.ConfigError("--json goes with --dry-run; a run writes "
                             "WORKDIR/metrics.jsonl")
  if args.explain and not args.dry_run:
    raise errors.ConfigError("--explain goes with --dry-run")
  if args.dry_run:
    from drivemoe_jax import inventory  # jax only once the flags are right
    described = inventory.describe(config)
    if args.json != "-":
      print(inventory.text(described, args.explain))
    flags.write_json(args, described)
    return 0
  if not args.workdir:
    raise errors.ConfigError("--workdir names the folder of the run")

  def work():
    from drivemoe_jax import hosts, train
    with hosts.joined(pod.place(args), config):
      return train.run(config, args.workdir,
                       lambda line: print(line, flush=True), accepted,
                       _driven if config.data.record.get("learner") else None)

  alone = not pod.asked(args)  # else jax tells all hosts
  with preemption.Notice() if alone else contextlib.nullcontext():
    return pod.run(args, "launch.train", work)


def _driven(*args):
  from launch import closed_loop  # what simulates is loaded where it is asked
  return closed_loop.drives_of(*args)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
