"""What the races of the model share: flags, rows, equality, a history.

A race gives each program a row. The peak is what the process holds, weights,
library and all; the floor is told by floor.py from ceilings that are measured
in the same run.
"""

import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from data_pipeline import errors
from launch import cli, flags
from launch.bench import floor, inputs, race, rows

OURS = {"jax": "", "jax apart": ", layers apart"}
PYTORCH = {"eager": "PyTorch", "compiled": "PyTorch, torch.compile"}
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


def add_arguments(parser, runs):
  parser.add_argument("--config", default="configs/mid.py",
                      metavar="FILE[:ARG]",
                      help="whose model; override with --config.key=value")
  parser.add_argument("--against", choices=["pytorch", "pytorch-eager"],
                      help="race a plain PyTorch port of the release on the "
                      "same weights, eager and compiled (which takes minutes), "
                      "or eager alone; outputs must agree")
  parser.add_argument("--runs", type=int, default=runs,
                      help="timed calls of each program")
  parser.add_argument("--threads", type=int,
                      default=len(os.sched_getaffinity(0)),
                      help="processors for each side")
  parser.add_argument("--history", metavar="FILE",
                      help="append the result there, as one line")


@dataclasses.dataclass(frozen=True)
class Race:
  """What a benchmark of the model compares.

  Attributes:
    config: whose model. makers: path of the weights -> {a name in OURS or a
      form of PYTORCH: maker as for race.run}.
    floors: (ceilings, model, name of a program) -> as floor.plan.
    batch_size: of all programs, if it is one.
  """

  config: ConfigDict
  makers: Callable
  floors: Callable
  batch_size: int | None = None


def load_config(args):
  return cli.load_config(args.config, args.overrides)


def run(args, say, made):
  """Races what `made`, a Race, compares; returns the result.

  Raises:
    NumericsError: programs compute something else.
  """
  check(args)
  about = describe(args) | {"config": args.config,
                            "dtype": made.config.model.dtype}
  with tempfile.TemporaryDirectory(prefix="bench_") as folder:
    path = os.path.join(folder, "weights.safetensors")
    say("bench: writing random weights")
    inputs.export(made.config, path)
    ceilings = measure_ceilings(made.config.model.dtype, args.threads, say)
    found = race.run(chosen(made.makers(path), args), args.runs, args.threads,
                     say)
  different = differences(found, TOLERANCE[made.config.model.dtype])
  if different:
    raise errors.NumericsError(
        f"{different[0]}; a race of programs that compute something else "
        "means nothing")
  result = about | {"ok": True, "ceilings": ceilings,
                    "rows": make_rows(found, made, ceilings)}
  result["machine"]["load_after"] = os.getloadavg()[0]
  result["remarks"] = [remark(ceilings), *left_out(found)]
  _note(args.history, result)
  return result


def check(args):
  """Refuses what cannot be raced."""
  flags.check_positive(args, "runs", "threads")
  if args.against and not importlib.util.find_spec("torch"):
    raise errors.ConfigError(
        "--against pytorch needs torch; install it (the CPU build is enough) "
        "or leave it out")


def describe(args):
  """{"machine", "threads", "versions"}."""
  return {"machine": rows.machine(), "threads": args.threads,
          "versions": _versions(args.against)}


def chosen(makers, args):
  """Those that --against asks for."""
  wanted = {None: [*OURS], "pytorch": [*OURS, *PYTORCH],
            "pytorch-eager": [*OURS, "eager"]}[args.against]
  return {name: maker for name, maker in makers.items() if name in wanted}


def _versions(against):
  names = ("jax", "jaxlib", "flax", "numpy") + (("torch",) if against else ())
  return {name: importlib.metadata.version(name) for name in names}


def measure_ceilings(dtype, threads, say):
  """{"flops", "bandwidth", "device"}: a second each."""
  found = race.run({"the device": (floor.Ceilings, dtype)}, 1, threads, say)
  return {k: v.item() for k, v in found["the device", "ceilings"][
      "first"].items()}


def differences(found, tolerance):
  """Lines on outputs that are not those of our first program of that name."""
  lines = []
  for (side, name), value in found.items():
    reference = _reference(found, name)
    if "failed" in value or reference is None:
      continue
    for key, want in reference["first"].items():
      got, scale = value["first"][key], np.abs(want).max() + 1e-6
      error = float(np.abs(got - want).max() / scale)
      if not error <= tolerance:
        lines.append(f"{side}, {name}: {key} differs by {error:.1e} of its "
                     f"largest value from ours, allowed are {tolerance:.0e}")
  return lines


def _shape(name):
  """`batch 1, token, dense` -> `batch 1, token`: the work, not the way."""
  return ", ".join(name.split(", ")[:2])


def _reference(found, name):
  ours = [value for (side, other), value in found.items()
          if side in OURS and "failed" not in value
          and _shape(other) == _shape(name)]
  return ours[0] if ours else None


def make_rows(found, made, ceilings):
  """A row of rows.py for each program that ran."""
  from drivemoe_jax import build
  model, result = build.model(made.config), []
  for (side, name), value in found.items():
    if "failed" in value:
      continue
    rivals = [(PYTORCH[other], theirs["ms"])
              for (other, program), theirs in found.items()
              if other in PYTORCH and "failed" not in theirs
              and _shape(program) == _shape(name)]
    best = min(rivals, key=lambda rival: np.median(rival[1]), default=None)
    least = made.floors(ceilings, model, name)
    row = rows.make(
        name + OURS[side] if side in OURS else f"{PYTORCH[side]}, {name}",
        value["ms"], peak_bytes=value["peak_bytes"],
        floor_ms=least["floor_ms"], against=best if side in OURS else None)
    result.append(row | {"flops": least["flops"], "bytes": least["bytes"],
                         "compile_s": value["compile_s"],
                         "runs": len(value["ms"])})
  return result


def remark(ceilings):
  return (f"{ceilings['device']}: {ceilings['flops'] / 1e9:.1f} GF/s, "
          f"{ceilings['bandwidth'] / 1e9:.1f} GB/s, measured")


def left_out(found):
  return [f"left out: {PYTORCH.get(side, side)}, {name}: {value['failed']}"
          for (side, name), value in found.items() if "failed" in value]


def _note(path, result):
  if path:
    now = datetime.datetime.now(datetime.UTC)
    with open(path, "a", encoding="utf-8") as file:
      file.write(json.dumps({"time": now.isoformat(timespec="seconds")}
                            | result, allow_nan=False) + "\n")
