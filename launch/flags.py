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
  """--step and --steps: which checkpoint plans, and how finely."""
  parser.add_argument("--step", type=int,
                      help="checkpoint step; default: the latest")
  parser.add_argument("--steps", type=int,
                      help="Euler steps of the flow; default: the run's")


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


def check_positive(args, *names):
  """Raises ConfigError for a flag, given by its attribute, of 0 or less."""
  for name in names:
    value = getattr(args, name)
    if value is not None and value <= 0:
      raise errors.ConfigError(
          f"--{name.replace('_', '-')} {value}: must be positive")
