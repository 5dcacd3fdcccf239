r"""Measures speed: warm-up apart, medians with their spread, rows of one form.

python -m launch.bench infer --config configs/mid.py --against pytorch
python -m launch.bench train --config configs/mid.py --against pytorch
python -m launch.bench experts --config configs/mid.py --against pytorch
python -m launch.bench data --against pytorch
python -m launch.bench data --routes ROUTES --prepared PREPARED --json -
python -m launch.bench serve --soak 10

What is timed runs in fresh processes; rows.py tells what a row holds.
"""

import sys

from launch import cli, flags
from launch.bench import data, experts, gpu, infer, rows, serve, train

BENCHES = {"infer": infer, "train": train, "experts": experts,
           "gpu": gpu, "data": data, "serve": serve}


def add_arguments(parser):
  which = parser.add_subparsers(dest="bench", required=True)
  for name, bench in BENCHES.items():
    sub = which.add_parser(name, help=bench.__doc__.splitlines()[0],
                           description=bench.__doc__)
    bench.add_arguments(sub)
    flags.add_json(sub, "the result")


def run(args):
  result = BENCHES[args.bench].run(
      args, lambda line: print(line, file=sys.stderr, flush=True))
  print(rows.table(result), file=flags.words(args))
  flags.write_json(args, result)
  return 0 if result["ok"] else 1


main = cli.command(__doc__, add_arguments, run)
