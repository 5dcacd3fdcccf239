r"""Draws a run: one HTML page with curves, pictures of plans, and tables.

python -m launch.report --workdir runs/tiny
python -m launch.report --workdir runs/tiny_stage1 --workdir runs/tiny_stage2 \
    --out report.html

Several run folders are the stages of one training, in order: each gives its
loss curves, the last one (evaluated by launch.evaluate) the rest: its
closed_loop.json and film.gif are shown where they are there. The page needs
nothing beside itself.
"""

import os
import sys

from drivemoe_jax import report
from launch import cli


def add_arguments(parser):
  parser.add_argument("--workdir", required=True, action="append",
                      help="run folder; repeat it for the stages in order")
  parser.add_argument("--out", metavar="FILE",
                      help="default: report.html in the last run folder")


def run(args):
  out = args.out or os.path.join(args.workdir[-1], "report.html")
  shown = report.write(
      args.workdir, out,
      lambda text: print(f"report: {text}", file=sys.stderr, flush=True))
  print(f"report: {out} ({os.path.getsize(out) / 1e6:.1f} MB, {shown} windows "
        "drawn)")


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
