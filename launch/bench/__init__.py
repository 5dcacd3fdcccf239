r"""Measures speed: warm-up apart, medians with their spread, rows of one form.

python -m launch.bench data --against pytorch
python -m launch.bench data --routes ROUTES --prepared PREPARED --json -
python -m launch.bench serve --soak 10

What is timed runs in fresh processes; rows.py tells what a row holds.
"""

import sys

from launch import cli
from launch.bench import data, rows, serve

BENCHES = {"data": data, "serve": serve}


def add_arguments(parser):
  which = parser.add_subparsers(dest="bench", required=True)
  for name, bench in BENCHES.items():
    sub = which.add_parser(name, help=bench.__doc__.splitlines()[0],
                           description=bench.__doc__)
    bench.add_arguments(sub)
    sub.add_argument("--json", metavar="FILE",
                     help="write the result there; - is standard output")


def run(args):
  out = sys.stderr if args.json == "-" else sys.stdout
  result = BENCHES[args.bench].run(
      args, lambda line: print(line, file=sys.stderr, flush=True))
  print(rows.table(result), file=out)
  if args.json:
    cli.write_json(args.json, result)
  return 0 if result["ok"] else 1


main = cli.command(__doc__, add_arguments, run)
