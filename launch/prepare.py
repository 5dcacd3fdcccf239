r"""Prepares raw Bench2Drive routes for training: one record per frame.

python -m launch.prepare --root data/routes --labels data --out data/prepared \
    --val-list data/val_routes.txt --workers 8

Six images are resized once; shards, index, statistics and a manifest with
hashes go to OUT. Start the same command again after a kill: it does what is
missing. --beam runs both stages by Apache Beam, see docs/prepare.md.
"""

import importlib.util
import shlex
import sys

from data_pipeline import bench2drive, errors, prepare, raw_routes
from launch import cli, prepare_arguments


def add_arguments(parser):
  parser.add_argument("--root", required=True, help="folder of the routes")
  parser.add_argument("--labels", metavar="DIR",
                      help="folder of camera_labels/ and scenario_labels/; "
                      "without, records have no labels")
  held_out = prepare_arguments.add(parser, "routes")
  held_out.add_argument("--val-list", metavar="FILE",
                        default=bench2drive.OFFICIAL_VAL,
                        help="validation routes, one a line; default: those "
                        "of Bench2Drive Base-1000")
  parser.add_argument("--nan-heading", choices=["box", "zero"], default="box",
                      help="heading of frames without compass")
  parser.add_argument("--frames-per-shard", type=int, metavar="N",
                      default=prepare.Options().frames_per_shard)
  parser.add_argument("--beam", metavar="FLAGS",
                      help="Apache Beam pipeline flags, one string")


def _beam_flags(text):
  """Words of --beam; what would fail only after the routes are indexed."""
  if text is None:
    return None
  if importlib.util.find_spec("apache_beam") is None:
    raise errors.ConfigError("--beam needs Apache Beam: install apache-beam")
  try:
    return shlex.split(text)
  except ValueError as error:
    raise errors.ConfigError(f"--beam {text}: {error}") from None


def run(args):
  beam = _beam_flags(args.beam)
  source = raw_routes.RawRoutes(args.root, args.labels, args.nan_heading)
  ways = ({"val_list": args.val_list} if args.val_fraction is None else
          {"val_fraction": args.val_fraction, "seed": args.seed})
  _, val = bench2drive.split(source.names(), **ways)
  manifest = prepare_arguments.fill(
      args, source, val, frames_per_shard=args.frames_per_shard, beam=beam)
  prepare_arguments.summary("prepare", "routes", args, manifest)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
