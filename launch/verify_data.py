r"""Checks raw routes or a prepared folder; exit 3 with the first fault.

python -m launch.verify_data --root data/routes --labels data \
    --val-list data/val_routes.txt --workers 8
python -m launch.verify_data --root data/prepared --all --json faults.json

Six cameras, contiguous frames, readable gzip, JSON and images, finite
numbers, labels of the right length; of prepared data all hashes, counts and
records; and that no recording is on both sides of the split.
"""

import sys

from data_pipeline import (
    errors,
    prepared,
    verify,
    verify_prepared,
    verify_raw,
)
from launch import cli, flags


def add_arguments(parser):
  parser.add_argument("--root", required=True,
                      help="folder of raw routes, or a prepared one")
  parser.add_argument("--labels", metavar="DIR",
                      help="of raw routes: folder of camera_labels/ and "
                      "scenario_labels/")
  parser.add_argument("--val-list", metavar="FILE",
                      help="validation routes, one a line")
  parser.add_argument("--no-images", action="store_true",
                      help="do not decode images: minutes instead of hours")
  parser.add_argument("--all", action="store_true",
                      help="count all faults instead of stopping at the first")
  parser.add_argument("--workers", type=int, default=1, help="processes")
  flags.add_json(parser, "the report")


def run(args):
  flags.check_positive(args, "workers")
  options = dict(val_list=args.val_list, decode=not args.no_images,
                 everything=args.all, workers=args.workers)
  if prepared.is_prepared(args.root):
    if args.labels:
      raise errors.ConfigError(
          f"--labels {args.labels}: {args.root} is prepared, its labels are "
          "in its records; leave the flag out")
    kind, report = "prepared", verify_prepared.check(args.root, **options)
  else:
    kind, report = "raw", verify_raw.check(args.root, args.labels, **options)
  print(f"verify: {args.root} ({kind}): {report.routes} routes, "
        f"{report.frames} frames", *verify.table(report), sep="\n",
        file=flags.words(args))
  flags.write_json(args, verify.as_json(report, kind, args.root))
  if report.faults:
    first = report.faults[0]
    more = (f" ({len(report.faults)} faults in all)" if args.all else
            " (stopped there; --all counts the others)")
    raise errors.DataError(first.message + more)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
