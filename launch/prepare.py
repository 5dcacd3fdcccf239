r"""Prepares raw Bench2Drive routes for training: one record per frame.

python -m launch.prepare --root data/routes --labels data --out data/prepared \
    --val-list data/val_routes.txt --workers 8

Six images are resized once; shards, index, statistics and a manifest with
hashes go to OUT. Start the same command again after a kill: it does what is
missing. --beam runs both stages by Apache Beam, see docs/prepare.md.
"""

import os
import shlex
import sys

from data_pipeline import bench2drive, prepare, raw_routes, records
from launch import cli


def add_arguments(parser):
  default = prepare.Options()
  parser.add_argument("--root", required=True, help="folder of the routes")
  parser.add_argument("--labels", metavar="DIR",
                      help="folder of camera_labels/ and scenario_labels/; "
                      "without, records have no labels")
  parser.add_argument("--out", required=True, help="folder to write")
  held_out = parser.add_mutually_exclusive_group()
  held_out.add_argument("--val-list", metavar="FILE",
                        default=bench2drive.OFFICIAL_VAL,
                        help="validation routes, one a line; default: those "
                        "of Bench2Drive Base-1000")
  held_out.add_argument("--val-fraction", type=float, metavar="SHARE",
                        help="instead of a list: share of routes held out")
  parser.add_argument("--seed", type=int, default=0,
                      help="which routes --val-fraction takes")
  parser.add_argument("--size", type=int, default=default.size,
                      help="side of the images in pixels")
  parser.add_argument("--encoding", default=default.encoding,
                      choices=list(records.ENCODINGS),
                      help="png is lossless, jpeg has quality 95")
  parser.add_argument("--horizons", type=int, nargs="+", metavar="H",
                      default=list(default.horizons),
                      help="plan lengths to compute statistics for")
  parser.add_argument("--nan-heading", choices=["box", "zero"], default="box",
                      help="heading of frames without compass")
  parser.add_argument("--on-bad-record", choices=["fail", "skip"],
                      default="fail", help="what to do about bad routes")
  parser.add_argument("--skip-cap", type=float, default=0.05, metavar="SHARE",
                      help="most routes that may be skipped")
  parser.add_argument("--frames-per-shard", type=int, metavar="N",
                      default=default.frames_per_shard)
  parser.add_argument("--workers", type=int, default=os.cpu_count(),
                      help="processes")
  parser.add_argument("--beam", metavar="FLAGS",
                      help="Apache Beam pipeline flags, one string")


def run(args):
  source = raw_routes.RawRoutes(args.root, args.labels, args.nan_heading)
  ways = ({"val_list": args.val_list} if args.val_fraction is None else
          {"val_fraction": args.val_fraction, "seed": args.seed})
  _, val = bench2drive.split(source.names(), **ways)
  manifest = prepare.prepare(
      source, args.out, prepare.Options(
          size=args.size, encoding=args.encoding,
          horizons=tuple(args.horizons),
          frames_per_shard=args.frames_per_shard),
      val, workers=args.workers,
      beam=shlex.split(args.beam) if args.beam else None,
      on_bad_record=args.on_bad_record, skip_cap=args.skip_cap,
      say=lambda line: print(line, flush=True))
  size = sum(shard["bytes"] for shard in manifest["shards"])
  print(f"prepare: {args.out} holds {len(manifest['routes'])} routes, "
        f"{manifest['frames']} frames in {len(manifest['shards'])} shards, "
        f"{size / 1e9:.2f} GB; {len(manifest['skipped'])} routes left out")
  for name, why in manifest["skipped"].items():
    print(f"  {name}: {why}")


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
