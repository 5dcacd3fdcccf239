"""A plan from images: our sampler, and PyTorch's, batch by batch.

From uint8 images on the host to waypoints on the host: two front images, the
router, the chosen view, the prefix once, ten steps of the flow.
"""

from launch import flags
from launch.bench import floor, speed


def add_arguments(parser):
  speed.add_arguments(parser, runs=30)
  parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1])


def race(args):
  """speed.Race of the samplers."""
  args.batch_size = min(args.batch_sizes)
  flags.check_positive(args, "batch_size")
  config = speed.load_config(args)

  def makers(path):
    from launch.bench import jax_sides
    made = {"jax": (jax_sides.Sampler, config, path, args.batch_sizes),
            "jax apart": (jax_sides.Sampler, config, path, args.batch_sizes,
                          True)}
    if args.against:
      from launch.bench import torch_sides
      made |= {form: (torch_sides.Sampler, config, path, args.batch_sizes,
                      args.threads, form) for form in speed.PYTORCH}
    return made

  return speed.Race(config, makers, lambda ceilings, model, name: floor.plan(
      ceilings, model, int(name.split()[1]), config.flow.steps))


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  return speed.run(args, say, race(args))
