"""Turn weights of one format into another, and prove the result.

  python -m launch.convert --source runs/x --target x.pt
  python -m launch.convert --source runs/x@400 --target x.safetensors
  python -m launch.convert --source paligemma.npz --target paligemma/
  python -m launch.convert --source x.pt --target x.npz --final-norm paligemma/

The source is a training folder (its latest step, or another after an @), an
official .pt or safetensors, PaliGemma as big_vision's .npz or as a Hugging
Face folder; which, is told by its contents. What was written is read back and
compared element by element before it gets its name. No format needs torch.
"""

import dataclasses
import math
import re
import sys

from launch import cli

UNITS = {"": 1, "KB": 10 ** 3, "MB": 10 ** 6, "GB": 10 ** 9}


def add_arguments(parser):
  parser.add_argument("--source", required=True, metavar="PATH",
                      help="WORKDIR, WORKDIR@STEP, a weight file or folder")
  parser.add_argument("--target", required=True, metavar="PATH",
                      help="NAME.pt, NAME.npz, NAME.safetensors or a folder")
  parser.add_argument("--names", choices=["official", "hf", "bv"],
                      help="whose names the target bears; hf and bv are "
                      "PaliGemma alone (default: bv for .npz, else the "
                      "official ones, or hf where the source is PaliGemma)")
  parser.add_argument("--dtype", default="float32",
                      choices=["float32", "bfloat16"])
  parser.add_argument("--max-shard", default="4GB", metavar="SIZE",
                      help="largest file of a folder, as 500MB (default 4GB)")
  parser.add_argument("--tie", choices=["action", "proprio"],
                      help="whose copy of the weights that both streams share "
                      "to take where a file's copies differ")
  parser.add_argument("--allow-extra", default="", metavar="REGEX",
                      help="keys of the source that may be left out")
  parser.add_argument("--final-norm", metavar="PATH",
                      help="a PaliGemma file, for the one weight that official "
                      "files lack and hf and bv hold")
  parser.add_argument("--heads", metavar="V,T,K",
                      help="attention heads of vision, text, and its keys, "
                      "for bv from a file that does not tell them")
  parser.add_argument("--dry-run", action="store_true",
                      help="print the table of tensors, write nothing")
  parser.add_argument("--check-forward", action="store_true",
                      help="run the model on what was written, in JAX and in "
                      "plain PyTorch, and print the difference (needs torch)")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace the target")


def run(args):
  from drivemoe_jax.weights import formats, write  # once the flags are right

  weights = _load(args)
  names = args.names or _names(args.target, weights)
  write.check_target(args.target, names)
  table = write.table(weights, names)
  size = formats.DTYPES[args.dtype].itemsize
  shared = args.target.endswith(".pt")  # there a copy takes no room
  elements = total = 0
  for key, shape, alias_of in table:
    count = math.prod(shape)
    elements += count
    total += 0 if shared and alias_of else count * size
    if args.dry_run:
      print(f"{key:76} {'x'.join(map(str, shape)):>16} {args.dtype} "
            f"{count * size:>13,}" + (f"  = {alias_of}" if alias_of else ""))
  if weights.skipped:
    print(f"skipped {len(weights.skipped)} tensors of the source: "
          + ", ".join(weights.skipped))
  print(f"{len(table)} tensors, {elements:,} elements, {total:,} bytes")
  check = _forward(args, names) if args.check_forward else None
  if args.dry_run:
    return
  write.write(args.target, weights, column=names, dtype=args.dtype,
              max_shard=_bytes(args.max_shard), overwrite=args.overwrite,
              check=check)
  if shared:
    _explain(weights)
  print(f"wrote {args.target}; read back, every element equal")


def _load(args):
  """read.Weights of the source."""
  from data_pipeline import errors
  from drivemoe_jax.weights import read, sources

  file, carried = sources.open_source(args.source)
  if file.tree and args.tie:
    raise errors.ConfigError(
        f"--tie {args.tie}: {args.source} is a training folder, whose streams "
        "share one copy; leave the flag out")
  weights = read.scan(file, tie=args.tie, heads=_heads(args.heads),
                      allowed=read.Allowed(extra=args.allow_extra))
  if file.tree:
    weights = of_run(weights, sources.config_of(args.source))
  if args.final_norm:
    other = read.scan(sources.open_source(args.final_norm)[0])
    if read.CARRIED not in other.carried:
      raise errors.CheckpointError(
          f"--final-norm {args.final_norm} holds no {read.CARRIED}; name "
          "PaliGemma's own file")
    carried = other.carried
  return dataclasses.replace(weights, carried=weights.carried | carried)


def of_run(weights, config):
  """The weights of a run with what its config says beside them."""
  from data_pipeline import spec

  # A run without labels has no counts: the release's fill the buffers then.
  counts = {"camera": config["loss"]["camera_counts"] or spec.CAMERA_COUNTS,
            "skill": config["loss"]["skill_counts"] or spec.SKILL_COUNTS}
  return dataclasses.replace(weights, alphas={
      name: spec.alphas(counts[name]) for name in weights.alphas})


def _names(target, weights):
  if target.endswith(".npz"):
    return "bv"
  return "official" if "io/action_in/linear_1/bias" in weights.params else "hf"


def _heads(text):
  from data_pipeline import errors
  if not text:
    return None
  if not re.fullmatch(r"\d+,\d+,\d+", text):
    raise errors.ConfigError(
        f"--heads {text}: write three numbers, as 16,8,1 for PaliGemma-3B")
  return dict(zip(("vision", "text", "kv"), map(int, text.split(","))))


def _bytes(text):
  from data_pipeline import errors
  found = re.fullmatch(r"(\d+)([KMG]B|)", text)
  if not found or not int(found[1]):
    raise errors.ConfigError(f"--max-shard {text}: write a size as 500MB, 4GB")
  return int(found[1]) * UNITS[found[2]]


def _forward(args, names):
  """A function of the written path that compares two forward passes."""
  from data_pipeline import errors
  from drivemoe_jax.weights import sources
  from launch import forward

  if names != "official" or not sources.is_run(args.source):
    raise errors.ConfigError(
        "--check-forward runs whole models: the source must be a training "
        "folder and --names official")
  forward.require()
  config = sources.config_of(args.source)

  def check(path):
    for name, error in forward.compare(path, config):
      print(f"forward: {name:14} differs by {error:.1e} from plain PyTorch")
  return check


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
