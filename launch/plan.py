r"""Compiles a run for a TPU slice without one: memory, traffic, time.

python -m launch.plan --config configs/stage1.py --topology v5e:4x4 \
    --mesh data=1,fsdp=16,expert=1 --batch-per-chip 8
python -m launch.plan --config configs/stage1.py --topology v5e:1x1 \
    --what sample --json -
python -m launch.plan --config configs/stage1.py --topology v6e:4x4 \
    --mesh fsdp=16 --batch-per-chip 16 --config.model.remat=dots

Needs libtpu (`pip install -e '.[plan]'`), minutes and 6 GB for the full size;
without libtpu, or with --analytic, memory is estimated by arithmetic. Exit 2
when the run does not fit. docs/plan.md explains every line.
"""

import os
import sys

from data_pipeline import errors
from launch import cli, flags


def add_arguments(parser):
  flags.add_config(parser)
  parser.add_argument("--topology", required=True,
                      help="a slice such as v5e:4x4, v5p:4x4x4, v6e:16x16, "
                      "v4:2x2x1")
  parser.add_argument("--slices", type=int, metavar="N",
                      help="slices of that shape (default 1)")
  parser.add_argument("--mesh",
                      help="data=1,fsdp=16,expert=1; what is left out is the "
                      "config's")
  parser.add_argument("--batch-per-chip", type=int, metavar="N",
                      help="samples that a chip takes at once (default 8; 1 "
                      "for --what sample); with --config.per_device_batch=M "
                      "in pieces of M")
  parser.add_argument("--what", choices=("train", "sample"), default="train",
                      help="the train step, or the policy's sampler on one "
                      "chip")
  parser.add_argument("--analytic", action="store_true",
                      help="arithmetic only, seconds instead of minutes")
  parser.add_argument("--hlo", metavar="FILE",
                      help="write the text of the compiled program there")
  flags.add_json(parser, "the plan")


AXES = ("data", "fsdp", "expert")


def mesh_sizes(text):
  """"data=1,fsdp=16" -> {"data": 1, "fsdp": 16}."""
  sizes = {}
  for part in text.split(",") if text else ():
    axis, _, size = part.partition("=")
    try:
      if axis not in AXES:
        raise ValueError
      sizes[axis] = int(size)
    except ValueError:
      raise errors.ConfigError(
          f"--mesh {text}: {part!r} is not AXIS=NUMBER; axes: "
          f"{', '.join(AXES)}") from None
  return sizes


def set_environment():
  """What jax and libtpu read once, when they are loaded."""
  os.environ["JAX_PLATFORMS"] = "cpu"  # the slice need not be here
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # two plans side by side
  # Ask no cloud for the machine that this is not.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def _writer(path):
  def write(text):
    with open(path, "w", encoding="utf-8") as file:
      file.write(text)
  return write


def run(args):
  if args.what == "sample":
    flags.refuse(args, ("slices", "mesh"), "is not for --what sample, which "
                 "runs on one chip")
  if args.analytic:
    flags.refuse(args, ("hlo",), "is not for --analytic: nothing is compiled")
  flags.default(args, slices=1, mesh="")
  flags.check_positive(args, "slices")
  config = cli.load_config(args.config, args.overrides)
  mesh = mesh_sizes(args.mesh)
  set_environment()
  from drivemoe_jax.plan import compiled, describe, text
  if args.hlo and not compiled.libtpu_version():
    raise errors.ConfigError("--hlo needs libtpu: pip install -e '.[plan]'")
  stated = any(o.startswith("--config.per_device_batch=")
               for o in args.overrides)
  request = describe.Request(
      topology=args.topology, mesh=mesh, batch_per_chip=args.batch_per_chip,
      keep_microbatches=stated, what=args.what, slices=args.slices,
      analytic=args.analytic)
  show = (lambda lines: None) if args.json == "-" else (
      lambda lines: print("\n".join(lines), flush=True))
  result = describe.describe(config, request,
                             lambda known: show(text.memory(known)),
                             keep_text=args.hlo and _writer(args.hlo))
  show(text.program(result))
  flags.write_json(args, result)
  if not result["fits"]:
    raise errors.HbmError(text.over_budget(result))


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
