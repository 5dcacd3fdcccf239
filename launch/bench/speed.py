"""What the races of the model share: flags, rows, equality, a history.

A race gives each program a row. The peak is what the process holds, weights,
library and all; the floor is told by floor.py from ceilings that are measured
in the same run.
"""

import datetime
import importlib.metadata
import importlib.util
import json
import os
import tempfile

import numpy as np

from data_pipeline import errors
from launch import cli, flags
from launch.bench import floor, inputs, race, rows

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


def run(args, say, *, sides, floors, change=lambda config: None):
  """Races and returns the result.

  Args:
    args: parsed. say: called with a line of progress.
    sides: (config, path of the weights, args) -> {"jax" | form of PYTORCH:
      maker as for race.run}.
    floors: (ceilings, model, name of a program) -> as floor.plan.
    change: sets keys of the config on which the race depends.
  """
  from drivemoe_jax import build
  flags.check_positive(args, "runs", "threads")
  if args.against and not importlib.util.find_spec("torch"):
    raise errors.ConfigError(
        "--against pytorch needs torch; install it (the CPU build is enough) "
        "or leave it out")
  config = cli.load_config(args.config, args.overrides)
  with config.unlocked():
    change(config)
  about = {"machine": rows.machine(), "threads": args.threads,
           "config": args.config, "dtype": config.model.dtype,
           "versions": _versions(args.against)}
  with tempfile.TemporaryDirectory(prefix="bench_") as folder:
    path = os.path.join(folder, "weights.safetensors")
    say("bench: writing random weights")
    inputs.export(config, path)
    ceilings = _ceilings(config, args.threads, say)
    wanted = {None: ["jax"], "pytorch": ["jax", *PYTORCH],
              "pytorch-eager": ["jax", "eager"]}[args.against]
    makers = {name: maker for name, maker in sides(config, path, args).items()
              if name in wanted}
    found = race.run(makers, args.runs, args.threads, say)
  _check_equal(found, TOLERANCE[config.model.dtype])
  model = build.model(config)
  result = about | {
      "ok": True, "ceilings": ceilings,
      "rows": _rows(found, lambda name: floors(ceilings, model, name))}
  result["machine"]["load_after"] = os.getloadavg()[0]
  result["remarks"] = _remarks(found, ceilings)
  _note(args.history, result)
  return result


def _versions(against):
  names = ("jax", "jaxlib", "flax", "numpy") + (("torch",) if against else ())
  return {name: importlib.metadata.version(name) for name in names}


def _ceilings(config, threads, say):
  """{"flops", "bandwidth", "device"}: a second each."""
  found = race.run({"the device": (floor.Ceilings, config.model.dtype)}, 1,
                   threads, say)
  return {k: v.item() for k, v in found["the device", "ceilings"][
      "first"].items()}


def _check_equal(found, tolerance):
  """Every program's outputs are those of our first one of that name."""
  for (side, name), value in found.items():
    reference = _reference(found, name)
    if "failed" in value or reference is None:
      continue
    for key, want in reference["first"].items():
      got, scale = value["first"][key], np.abs(want).max() + 1e-6
      error = float(np.abs(got - want).max() / scale)
      if not error <= tolerance:
        raise errors.NumericsError(
            f"{side}, {name}: {key} differs by {error:.1e} of its largest "
            f"value from ours, allowed are {tolerance:.0e}; a race of programs "
            "that compute something else means nothing")


def _shape(name):
  """`batch 1, token, dense` -> `batch 1, token`: the work, not the way."""
  return ", ".join(name.split(", ")[:2])


def _reference(found, name):
  ours = [value for (side, other), value in found.items()
          if side == "jax" and _shape(other) == _shape(name)]
  return ours[0] if ours else None


def _rows(found, floor_of):
  made = []
  for (side, name), value in found.items():
    if "failed" in value:
      continue
    rivals = [(PYTORCH[other], theirs["ms"])
              for (other, program), theirs in found.items()
              if other != "jax" and _shape(program) == _shape(name)
              and "failed" not in theirs]
    best = min(rivals, key=lambda rival: np.median(rival[1]), default=None)
    least = floor_of(name)
    row = rows.make(
        name if side == "jax" else f"{PYTORCH[side]}, {name}", value["ms"],
        peak_bytes=value["peak_bytes"], floor_ms=least["floor_ms"],
        against=best if side == "jax" else None)
    made.append(row | {"flops": least["flops"], "bytes": least["bytes"],
                       "compile_s": value["compile_s"],
                       "runs": len(value["ms"])})
  return made


def _remarks(found, ceilings):
  remarks = [f"{ceilings['device']}: {ceilings['flops'] / 1e9:.1f} GF/s, "
             f"{ceilings['bandwidth'] / 1e9:.1f} GB/s, measured"]
  return remarks + [
      f"left out: {PYTORCH.get(side, side)}, {name}: {value['failed']}"
      for (side, name), value in found.items() if "failed" in value]


def _note(path, result):
  if path:
    now = datetime.datetime.now(datetime.UTC)
    with open(path, "a", encoding="utf-8") as file:
      file.write(json.dumps({"time": now.isoformat(timespec="seconds")}
                            | result, allow_nan=False) + "\n")
