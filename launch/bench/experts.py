"""One layer of experts, every way to compute it, and PyTorch's.

By batch and router level. "rule" is what the model does in a sampler, "dense"
what it does in training; the other ways are kept here alone, to see whether
they win one day.
"""

from launch.bench import floor, speed


def add_arguments(parser):
  speed.add_arguments(parser, runs=30)
  parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])


def race(args):
  """speed.Race of the ways to compute a layer."""
  config = speed.load_config(args)
  width = 2 if config.model.dtype == "bfloat16" else 4

  def makers(path):
    from launch.bench import jax_sides
    made = {"jax": (jax_sides.Experts, config, path, args.batch_sizes)}
    if args.against:
      from launch.bench import torch_sides
      made |= {form: (torch_sides.Experts, config, path, args.batch_sizes,
                      args.threads, form) for form in speed.PYTORCH}
    return made

  def floors(ceilings, model, name):
    batch = int(name.removeprefix("batch ").partition(",")[0])
    one = batch == 1 and "trajectory" in name
    touched = ((model.top_k if one else model.skill_experts)
               + model.shared_experts)
    return floor.experts(ceilings, model, batch, width, touched)

  return speed.Race(config, makers, floors)


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  return speed.run(args, say, race(args))
