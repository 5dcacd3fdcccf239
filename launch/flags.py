"""Flags that mean the same in several commands, defined once.

What commands share beyond their flags is launch.cli's.
"""

import sys

from data_pipeline import errors
from launch import cli


def add_config(parser):
  """--config; cli.command gathers what overrides it."""
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]",
                      help="configs/*.py; override with --config.key=value")


def add_sampling(parser):
  """--step, --steps, --noise-scale: which checkpoint plans, and how."""
  parser.add_argument("--step", type=int,
                      help="checkpoint step; default: the latest")
  parser.add_argument("--steps", type=int,
                      help="Euler steps of the flow; default: the run's")
  parser.add_argument("--noise-scale", type=float, metavar="X",
                      help="of the noise that plans start from: 1 samples, 0 "
                      "leaves nothing to chance; default: the run's")


def check_sampling(args):
  """Raises ConfigError for sampling flags that make no sense."""
  check_positive(args, "steps")
  check_seed(args)
  if args.noise_scale is not None and not 0 <= args.noise_scale <= 1:
    raise errors.ConfigError(
        f"--noise-scale {args.noise_scale}: must lie between 0 and 1")


def check_seed(args):
  """Raises ConfigError for a --seed that no generator takes."""
  seed = getattr(args, "seed", None)
  if seed is not None and not 0 <= seed < 2**32:
    raise errors.ConfigError(f"--seed {seed}: must lie in 0 to {2**32 - 1}")


def add_json(parser, what="everything"):
  """--json; `what` it writes, for the help."""
  parser.add_argument("--json", metavar="FILE",
                      help=f"write {what} there; - is standard output")


def words(args):
  """The file for words: standard output is the JSON's alone if it goes there.
  """
  return sys.stderr if args.json == "-" else sys.stdout


def write_json(args, value):
  """Writes to --json, if it was given."""
  if args.json:
    cli.write_json(args.json, value)


def refuse(args, names, why):
  """Raises ConfigError for a flag, given by its attribute, that was given.

  For flags that default to None or False.
  """
  for name in names:
    given = getattr(args, name)
    if given is not None and given is not False:  # 0 is given
      raise errors.ConfigError(f"--{name.replace('_', '-')} {why}")


def default(args, **values):
  """Fills in flags that were not given, where `refuse` has to tell."""
  for name, value in values.items():
    if getattr(args, name) is None:
      setattr(args, name, value)


def check_positive(args, *names):
  """Raises ConfigError for a flag, given by its attribute, of 0 or less."""
  for name in names:
    value = getattr(args, name)
    if value is not None and value <= 0:
      raise errors.ConfigError(
          f"--{name.replace('_', '-')} {value}: must be positive")
