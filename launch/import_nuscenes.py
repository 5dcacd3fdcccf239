r"""Prepares nuScenes scenes for training, at ten frames a second.

python -m launch.import_nuscenes --root NUSCENES --version v1.0-trainval \
    --out data/nuscenes --val-scenes val.txt --workers 8
python -m launch.train --config configs/nuscenes.py --workdir runs/nuscenes

The result is a prepared folder like launch.prepare's, without labels; the
validation routes are listed in OUT/val_routes.txt. Start the same command
again after a kill. docs/data.md tells how 2 Hz become 10.
"""

import os
import sys

from data_pipeline import bench2drive, errors, nuscenes, prepare, records
from launch import cli


def add_arguments(parser):
  default = prepare.Options()
  parser.add_argument("--root", required=True,
                      help="folder with samples/, sweeps/ and the tables")
  parser.add_argument("--version", default="v1.0-trainval",
                      help="folder of the tables in it")
  parser.add_argument("--out", required=True, help="folder to write")
  parser.add_argument("--keyframes-only", action="store_true",
                      help="take no images of sweeps/: 2 a second instead "
                      "of 12")
  held_out = parser.add_mutually_exclusive_group()
  held_out.add_argument("--val-scenes", metavar="FILE",
                        help="validation scenes, one a line (scene-0003)")
  held_out.add_argument("--val-fraction", type=float, metavar="SHARE",
                        default=0.1, help="without a list: share of the "
                        "scenes held out")
  parser.add_argument("--seed", type=int, default=0,
                      help="which scenes --val-fraction takes")
  parser.add_argument("--size", type=int, default=default.size,
                      help="side of the images in pixels")
  parser.add_argument("--encoding", default=default.encoding,
                      choices=list(records.ENCODINGS),
                      help="png is lossless, jpeg has quality 95")
  parser.add_argument("--horizons", type=int, nargs="+", metavar="H",
                      default=list(default.horizons),
                      help="plan lengths to compute statistics for")
  parser.add_argument("--on-bad-record", choices=["fail", "skip"],
                      default="fail", help="what to do about bad scenes, "
                      "such as those of a part that is not downloaded")
  parser.add_argument("--skip-cap", type=float, default=0.05, metavar="SHARE",
                      help="most scenes that may be skipped")
  parser.add_argument("--workers", type=int, default=os.cpu_count(),
                      help="processes")


def run(args):
  os.makedirs(args.out, exist_ok=True)
  print("import_nuscenes: sorting the tables", flush=True)
  source = nuscenes.index(
      args.root, args.version, os.path.join(args.out, "scenes"),
      keyframes_only=args.keyframes_only)
  val = _val_routes(source.names(), args)
  manifest = prepare.prepare(
      source, args.out, prepare.Options(
          size=args.size, encoding=args.encoding,
          horizons=tuple(args.horizons)),
      val, workers=args.workers, on_bad_record=args.on_bad_record,
      skip_cap=args.skip_cap, say=lambda line: print(line, flush=True))
  path = os.path.join(args.out, "val_routes.txt")
  with open(path + ".partial", "w", encoding="utf-8") as file:
    file.write("".join(f"{name}\n" for name in val))
  os.replace(path + ".partial", path)
  print(f"import_nuscenes: {args.out} holds {len(manifest['routes'])} scenes, "
        f"{manifest['frames']} frames; {len(manifest['skipped'])} left out")


def _val_routes(names, args):
  """Route names to hold out."""
  if not args.val_scenes:
    return bench2drive.split(names, val_fraction=args.val_fraction,
                             seed=args.seed)[1]
  try:
    with open(args.val_scenes, encoding="utf-8") as file:
      wanted = set(file.read().split())
  except OSError as error:
    raise errors.DataError(
        f"{args.val_scenes}: {error.strerror}; it must list the validation "
        "scenes, one a line") from None
  place = lambda name: bench2drive.parse_name(name)[1]
  val = [name for name in names if name in {
      nuscenes.route_name(scene, place(name)) for scene in wanted}]
  if not val:
    raise errors.DataError(
        f"{args.val_scenes} lists {len(wanted)} scenes, none of them among "
        f"the {len(names)} found; give this version's list or --val-fraction")
  return val


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
