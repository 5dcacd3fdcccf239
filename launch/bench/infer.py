"""A plan from images: our sampler, and PyTorch's, batch by batch.

From uint8 images on the host to waypoints on the host: two front images, the
router, the chosen view, the prefix once, ten steps of the flow.
"""

from launch import flags
from launch.bench import floor, speed


def add_arguments(parser):
  speed.add_arguments(parser, runs=30)
  parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1])


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  args.batch_size = min(args.batch_sizes)
  flags.check_positive(args, "batch_size")
  steps = []

  def sides(config, path, args):
    from launch.bench import jax_sides
    steps.append(config.flow.steps)
    made = {"jax": (jax_sides.Sampler, config, path, args.batch_sizes)}
    if args.against:
      from launch.bench import torch_sides
      made |= {form: (torch_sides.Sampler, config, path, args.batch_sizes,
                      args.threads, form) for form in speed.PYTORCH}
    return made

  return speed.run(
      args, say, sides=sides,
      floors=lambda ceilings, model, name: floor.plan(
          ceilings, model, int(name.split()[1]), steps[0]))
