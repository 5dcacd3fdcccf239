"""What every command shares: flags, configs with overrides, errors, JSON.

A command is a file with `add_arguments(parser)`, `run(args) -> int | None`
and `main = cli.command(__doc__, add_arguments, run)`.
"""

import argparse
import difflib
import json
import os
import runpy
import sys

from data_pipeline import errors, writing


def command(doc, add_arguments, run):
  """Returns main(argv=None): parses, runs, turns UserError into exit codes."""

  def main(argv=None):
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args, rest = parser.parse_known_args(argv)
    args.argv = sys.argv[1:] if argv is None else list(argv)
    args.overrides = [a for a in rest if a.startswith("--config.")]
    unknown = [a for a in rest if not a.startswith("--config.")]
    if unknown or (rest and not hasattr(args, "config")):
      parser.error(f"unrecognised arguments: {' '.join(unknown or rest)}")
    try:
      return run(args) or 0
    except errors.UserError as error:
      told = error
    except OSError as error:
      if error.filename is None:
        raise
      told = errors.StorageError(
          f"{error.filename}: {error.strerror}; make room, or name a place "
          "that can be read and written")
    print(told, file=sys.stderr)
    return told.status

  return main


def load_config(path, overrides=()):
  """Reads `configs/x.py[:arg]`, applies `--config.key=value`, locks it.

  Args:
    path: file with get_config(arg=None), and after a colon its argument.
    overrides: strings `--config.a.b=value`; the value is read as YAML and must
      have the type of the value it replaces.

  Raises:
    ConfigError: no such file or key (with the nearest key), or another type.
  """
  file, _, arg = path.partition(":")
  if not os.path.isfile(file):
    raise errors.ConfigError(f"no config file {file}; see configs/")
  try:
    get_config = runpy.run_path(file)["get_config"]
  except (KeyError, NameError, SyntaxError) as error:
    raise errors.ConfigError(
        f"{file} is no config file ({type(error).__name__}: {error}); name "
        "one as those of configs/") from None
  try:
    config = get_config(arg or None)
  except ValueError as error:  # configs know nothing of our errors
    raise errors.ConfigError(f"{path}: {error}") from error
  for override in overrides:
    key, equals, text = override.removeprefix("--config.").partition("=")
    if not equals:
      raise errors.ConfigError(f"{override}: write --config.{key}=VALUE")
    set_key(config, key, text)
  return config.lock()


def set_key(config, key, text):
  """Sets `a.b` in a ConfigDict from YAML text, keeping the key's type."""
  import yaml  # here, so that launch.doctor runs where they are missing

  from configs import common
  known = common.flatten(config)
  if key not in known:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
    raise errors.ConfigError(f"unknown config key {key!r}; {hint}")
  try:
    old, value = known[key], yaml.safe_load(text)
  except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
    raise errors.ConfigError(
        f"--config.{key}={text}: {str(error).splitlines()[0]}; write a value "
        f"like {known[key]!r}") from None
  if isinstance(old, float) and isinstance(value, (int, str)):
    try:  # YAML reads 1e-4 as a string
      value = float(value)
    except (ValueError, OverflowError):
      pass
  if isinstance(old, tuple) and isinstance(value, list):
    value = tuple(value)
  if isinstance(old, str) and not text.strip():  # YAML reads nothing as null
    value = ""
  if old is not None and value is not None and type(old) is not type(value):
    raise errors.ConfigError(
        f"config key {key!r} holds {old!r} ({type(old).__name__}), got "
        f"{text!r}; write a {type(old).__name__}")
  parent = config
  *parents, leaf = key.split(".")
  for name in parents:
    parent = parent[name]
  with parent.ignore_type():
    parent[leaf] = value


def write_json(target, value):
  """Writes one JSON object to a file, or to standard output for `-`."""
  text = json.dumps(value, indent=1, allow_nan=False)
  if target == "-":
    print(text)
  else:
    writing.put(target, text + "\n")
