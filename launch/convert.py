"""Write weights under the official names, for PyTorch.

  python -m launch.convert --source runs/x --target x.safetensors
  python -m launch.convert --source runs/x@400 --target x.pt

The source is a training folder (its latest step, or another after an @) or an
official file: .safetensors, a folder of such, or .pt. The target is .pt, which
needs torch, or .safetensors or a folder, which need none. What was written is
read back and compared element by element before the file gets its name.
"""

import math
import os
import sys

from launch import cli


def add_arguments(parser):
  parser.add_argument("--source", required=True, metavar="PATH",
                      help="WORKDIR, WORKDIR@STEP or an official file")
  parser.add_argument("--target", required=True, metavar="PATH",
                      help="NAME.pt, NAME.safetensors or a folder")
  parser.add_argument("--names", default="official", choices=["official"],
                      help="whose names the target bears")
  parser.add_argument("--dtype", default="float32",
                      choices=["float32", "bfloat16"])
  parser.add_argument("--tie", choices=["action", "proprio"],
                      help="whose copy of the weights that both streams share "
                      "to take where a file's copies differ")
  parser.add_argument("--dry-run", action="store_true",
                      help="print the table of tensors, write nothing")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace the target")


def run(args):
  from drivemoe_jax.weights import write  # numpy only once flags are right

  path = write.file_of(args.target)
  weights = _load(args.source, args.tie)
  table = write.table(weights)
  size = write.DTYPES[args.dtype].itemsize
  shared = path.endswith(".pt")  # there a copy takes no room
  elements = total = 0
  for key, shape, alias_of in table:
    count = math.prod(shape)
    elements += count
    total += 0 if shared and alias_of else count * size
    if args.dry_run:
      print(f"{key:76} {'x'.join(map(str, shape)):>16} {args.dtype} "
            f"{count * size:>13,}" + (f"  = {alias_of}" if alias_of else ""))
  print(f"{len(table)} tensors, {elements:,} elements, {total:,} bytes")
  if args.dry_run:
    return
  write.official(args.target, weights, dtype=args.dtype,
                 overwrite=args.overwrite)
  if shared:
    _explain(weights)
  print(f"wrote {path}; read back, every element equal")


def _load(source, tie):
  """read.Weights of a training folder or of an official file."""
  from data_pipeline import errors
  from drivemoe_jax.weights import read

  is_run = lambda path: os.path.isfile(os.path.join(path, "config.json"))
  if not is_run(source) and not is_run(source.rpartition("@")[0]):
    return read.scan(source, tie=tie)
  if tie:
    raise errors.ConfigError(
        f"--tie {tie}: {source} is a training folder, whose streams share one "
        "copy; leave the flag out")
  from drivemoe_jax import build, checkpoint  # jax only for a training folder

  return of_run(build.load_run(*checkpoint.split_source(source)))


def of_run(run):
  """read.Weights of a build.Run."""
  from data_pipeline import spec
  from drivemoe_jax.weights import read

  # A run without labels has no counts: the release's fill the buffers then.
  counts = {"camera": run.config.loss.camera_counts or spec.CAMERA_COUNTS,
            "skill": run.config.loss.skill_counts or spec.SKILL_COUNTS}
  routers = run.params.get("router", {})
  return read.Weights(
      run.params,
      {name: spec.alphas(counts[name]) for name in counts if name in routers},
      {"stage": run.config.stage, "horizon_steps": run.config.model.horizon,
       "cond_steps": run.config.model.history})


def _explain(weights):
  """Says what the envelope lacks."""
  print("optimiser states are not exported: this file starts a run or drives, "
        "it does not resume one")
  unknown = [name for name in ("stage", "horizon_steps", "cond_steps")
             if name not in weights.meta]
  if unknown and weights.alphas:
    print(f"the source does not tell {', '.join(unknown)}: written as None, "
          "which drives, but which the release neither scores nor trains on")


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
