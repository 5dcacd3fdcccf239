r"""The paper's comparison in the embedded world: 11 variants, 3 seeds each.

python -m launch.ablate --workdir runs/ablation
python -m launch.ablate --workdir runs/ablation --rows 'pi0-*,trajectory-*'
python -m launch.ablate --workdir runs/ablation --page docs/results.md

Trains Drive-pi0, both DriveMoEs and the paper's Table 3 under one budget,
evaluates them open and closed loop, and keeps a raw file per row as it
finishes. Started again it goes on. --page runs nothing: it writes the page
from the raw files. docs/miniworld.md tells what is measured.
"""

import sys

from drivemoe_jax.evaluators.ablation import variants
from launch import cli
from launch.ablate import children, page
from launch.ablate import row as rows


def add_arguments(parser):
  parser.add_argument("--workdir", required=True,
                      help="folder of the comparison")
  parser.add_argument("--page", metavar="FILE.md",
                      help="write the page, its figure and copies of the raw "
                      "files from what is finished; run nothing")
  parser.add_argument("--rows", metavar="PATTERN",
                      help="rows to run, such as 'pi0-*,token-0'; default: all")
  parser.add_argument("--config", default="configs/mini.py",
                      metavar="FILE[:ARG]", help="what every row starts from; "
                      "override with --config.key=value")
  parser.add_argument("--minutes", type=float, default=10.0,
                      help="of training for the slowest variant; all rows get "
                      "the updates that fit")
  parser.add_argument("--updates", type=int,
                      help="of every row, instead of measuring --minutes")
  parser.add_argument("--episodes", type=int, default=140,
                      help="drives per row; 14 are one of every scenario")
  parser.add_argument("--limit", type=int, metavar="N",
                      help="windows of the open-loop part; default: all")
  parser.add_argument("--scenes", type=int, default=5,
                      help="two-mode scenes to sample plans in")
  parser.add_argument("--samples", type=int, default=32,
                      help="plans of each of them")
  parser.add_argument("--workers", type=int, default=2,
                      help="processes that simulate")


def run(args):
  rows.need_enough(args)
  chosen = variants.rows(args.rows)
  if args.page:
    print(page.write(args.workdir, args.page))
    return 0
  say = lambda line: print(f"{children.stamp()} {line}", file=sys.stderr,
                           flush=True)
  make = rows.Maker(args, say)
  try:
    with children.leaving():
      make.prepare()
      for number, row in enumerate(chosen, 1):
        make(row)
        say(f"{row.name}: finished, {number} of {len(chosen)}")
  except children.Ended as ended:
    print(ended.line, file=sys.stderr)
    return ended.status
  return 0


main = cli.command(__doc__, add_arguments, run)
