r"""Drives the embedded world's expert; writes routes in Bench2Drive's format.

python -m launch.record --out data
python -m launch.record --out data --scenarios TJunction ParkedObstacle \
    --train-seeds 20 --val-seeds 4 --size 320x180 --workers 2

python -m launch.record --out data2 --scenarios all --seed 1000 \
    --train-seeds 32 --val-seeds 0 --size 160x90 --handover-frames 36 \
    --learner runs/mini --base runs/mini/data

Validation routes use other seeds and are named in OUT/val_routes.txt. A run
that was interrupted goes on where it stopped; a finished one is left alone.
"""

import re
import sys
import time

from data_pipeline import errors
from data_pipeline.miniworld import handover, names, recorder, scenarios
from launch import cli


def add_arguments(parser):
  parser.add_argument("--out", required=True, help="folder to write")
  parser.add_argument("--scenarios", nargs="+", metavar="TYPE",
                      help="scenario types, or `all`; default: the five "
                      "oldest")
  parser.add_argument("--train-seeds", type=int, default=len(recorder.SEEDS),
                      metavar="N", help="training routes per scenario")
  parser.add_argument("--val-seeds", type=int, default=2, metavar="N",
                      help="validation routes per scenario")
  parser.add_argument("--seed", type=int, default=recorder.SEEDS[0],
                      help="first training seed; validation seeds start at "
                      f"{recorder.VAL_SEED}")
  parser.add_argument("--size", default="320x180", metavar="WxH",
                      help="image size in pixels")
  parser.add_argument("--quality", type=int, default=recorder.QUALITY,
                      help="JPEG quality, 20..95")
  parser.add_argument("--handover-frames", type=int, default=0, metavar="N",
                      help="training routes of seven seeds of eight begin "
                      "where another driver leaves the car, too fast, aside, "
                      "or slow, and last N frames; those of every eighth seed "
                      "begin standing; default: all routes are the expert's")
  parser.add_argument("--learner", metavar="RUN",
                      help="with --handover-frames: a trained run (WORKDIR or "
                      "WORKDIR@STEP) is that other driver, so that the routes "
                      "begin where its own mistakes lead to; its drives go to "
                      "WORKDIR/drives")
  parser.add_argument("--base", metavar="DIR",
                      help="a finished recording of other seeds, whose routes "
                      "OUT shall hold as well")
  parser.add_argument("--max-frames", type=int, metavar="N",
                      default=recorder.MAX_FRAMES,
                      help="a route ends after this many frames (10 Hz); "
                      f"default: {recorder.MAX_FRAMES}")
  parser.add_argument("--workers", type=int, default=2, help="processes")


def run(args):
  size = re.fullmatch(r"(\d+)x(\d+)", args.size)
  if not size:
    raise errors.ConfigError(f"--size {args.size}: write it as 320x180")
  start = last = time.monotonic()

  def progress(done, total, name):
    nonlocal last
    now = time.monotonic()
    if now - last > 2.0 or done == total:
      last = now
      print(f"record: {done}/{total} routes, {now - start:.0f} s, {name}",
            flush=True)

  def driven(done, total, what):
    progress(done, total, f"{what} driven by the learner")

  size = int(size[1]), int(size[2])
  first = recorder.VAL_SEED
  kinds = (list(scenarios.SCENARIOS) if args.scenarios == ["all"]
           else args.scenarios)
  seeds = range(args.seed, args.seed + args.train_seeds)
  summary = recorder.record(
      args.out, kinds, seeds=seeds,
      val_seeds=range(first, first + args.val_seeds), size=size,
      quality=args.quality, max_frames=args.max_frames,
      handover_frames=args.handover_frames,
      drives=_drives(args, kinds, seeds, size, driven), base=args.base,
      workers=args.workers, progress=progress)
  print(f"record: {args.out} holds {len(summary['routes'])} routes, "
        f"{sum(summary['routes'].values())} frames; "
        f"{len(summary['val_routes'])} routes are for validation")


def _drives(args, kinds, seeds, size, progress):
  """Folder of the learner's drives; None without one."""
  if not args.learner:
    return None
  if not args.handover_frames:
    raise errors.ConfigError("--learner hands over to the expert: give "
                             "--handover-frames, such as 36")
  for kind in kinds or ():
    scenarios.check(kind)
  from launch import closed_loop  # jax only where somebody learnt
  return closed_loop.drives_of(
      args.learner, handover.scenes(kinds or names.FIRST, seeds), size,
      args.quality, args.workers, progress)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
