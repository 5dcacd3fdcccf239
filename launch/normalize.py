r"""Computes the normalisation of a data set, or checks one against it.

python -m launch.normalize --config configs/stage1.py --out statistics.json \
    --config.data.root=ROUTES --config.data.labels_root=LABELS
python -m launch.normalize --config configs/stage1.py --split val \
    --check runs/stage1/statistics.json \
    --config.data.root=ROUTES --config.data.labels_root=LABELS

Reads annotations, no images: minutes for raw Bench2Drive, seconds once it is
prepared. Horizon and options are the config's. --check exits with 3 when the
numbers are not finite or lie elsewhere than the statistics say.
"""

import sys

from data_pipeline import normalize, statistics_check
from launch import cli, flags


def add_arguments(parser):
  flags.add_config(parser)
  parser.add_argument("--workdir", default=".",
                      help="folder of a run that has recorded its own routes")
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--out", metavar="FILE", help="write statistics there")
  what.add_argument("--check", metavar="FILE",
                    help="compare these statistics (or: official)")
  parser.add_argument("--split", choices=("train", "val"),
                      help="with --check: whose samples; default: train")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace other statistics at --out")
  flags.add_json(parser, "the report")


def run(args):
  flags.refuse(args, ("split",) if args.out else ("overwrite",),
               f"is not for --{'out' if args.out else 'check'}")
  from drivemoe_jax import datasets  # jax only once the flags are right

  config = cli.load_config(args.config, args.overrides)
  given = args.check and normalize.load(args.check, config.model.horizon)
  windows = datasets.windows(config, args.workdir, args.split or "train")
  pool = normalize.Pool.of(windows)
  statistics = given or pool.statistics()
  if args.out:
    statistics.save(args.out, overwrite=args.overwrite)
  report = statistics_check.check(pool, statistics)
  out = flags.words(args)
  print(f"normalize: {len(windows)} windows of {len(windows.routes)} routes, "
        f"horizon {windows.horizon}", file=out)
  print(statistics_check.text(report), file=out)
  flags.write_json(args, report)
  return 3 if report["faults"] else 0


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
