r"""Prepares nuScenes scenes for training, at ten frames a second.

python -m launch.import_nuscenes --root NUSCENES --version v1.0-trainval \
    --out data/nuscenes --val-scenes val.txt --workers 8
python -m launch.train --config configs/nuscenes.py --workdir runs/nuscenes

The result is a prepared folder like launch.prepare's, without labels; the
validation routes are listed in OUT/val_routes.txt. Start the same command
again after a kill. A copy that lacks parts takes --on-bad-record skip and a
--skip-cap. docs/data.md tells how 2 Hz become 10.
"""

import os
import sys

from data_pipeline import (
  bench2drive,
  errors,
  nuscenes,
  nuscenes_tables,
  reading,
)
from launch import cli, prepare_arguments


def add_arguments(parser):
  parser.add_argument("--root", required=True,
                      help="folder with samples/, sweeps/ and the tables")
  parser.add_argument("--version", default="v1.0-trainval",
                      help="folder of the tables in it")
  parser.add_argument("--keyframes-only", action="store_true",
                      help="take no images of sweeps/: 2 a second instead "
                      "of 12")
  held_out = prepare_arguments.add(parser, "scenes", val_fraction=0.1)
  held_out.add_argument("--val-scenes", metavar="FILE",
                        help="validation scenes, one a line (scene-0003)")


def run(args):
  os.makedirs(args.out, exist_ok=True)
  print("import_nuscenes: sorting the tables", flush=True)
  source = nuscenes.index(
      args.root, args.version, os.path.join(args.out, "scenes"),
      keyframes_only=args.keyframes_only)
  val = _val_routes(source.names(), args)
  manifest = prepare_arguments.fill(args, source, val)
  path = os.path.join(args.out, "val_routes.txt")
  with open(path + ".partial", "w", encoding="utf-8") as file:
    file.write("".join(f"{name}\n" for name in val))
  os.replace(path + ".partial", path)
  prepare_arguments.summary("import_nuscenes", "scenes", args, manifest)


def _val_routes(names, args):
  """Route names to hold out."""
  if not args.val_scenes:
    return bench2drive.split(names, val_fraction=args.val_fraction,
                             seed=args.seed)[1]
  wanted = set(reading.words(
      args.val_scenes, "it must list the validation scenes, one a line"))
  place = lambda name: bench2drive.parse_name(name)[1]
  val = [name for name in names if name in {
      nuscenes_tables.route_name(scene, place(name)) for scene in wanted}]
  if not val:
    raise errors.DataError(
        f"{args.val_scenes} lists {len(wanted)} scenes, none of them among "
        f"the {len(names)} found; give this version's list or --val-fraction")
  return val


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
