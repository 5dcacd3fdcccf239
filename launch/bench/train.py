"""A training step: forward, backward, update; ours and PyTorch's.

Stage 1 on random batches, without the camera router's dropout, so that both
sides compute the same; theirs is given the noise that ours draws.
"""

from launch.bench import floor, speed


def add_arguments(parser):
  speed.add_arguments(parser, runs=10)
  parser.add_argument("--batch-size", type=int,
                      help="default: the config's for one device")


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  used = {}

  def change(config):
    config.model.camera_dropout = 0.0
    batch = args.batch_size or config.per_device_batch or config.global_batch
    config.global_batch = config.per_device_batch = batch
    used.update(batch=batch, choice=config.camera_choice)

  def sides(config, path, args):
    from launch.bench import jax_sides
    made = {"jax": (jax_sides.Update, config, path, used["batch"])}
    if args.against:
      from launch.bench import torch_sides
      made |= {form: (torch_sides.Update, config, path, used["batch"],
                      args.threads, form) for form in speed.PYTORCH}
    return made

  def floors(ceilings, model, name):
    del name
    from drivemoe_jax import optim
    from drivemoe_jax import step as steps
    trained = optim.num_trainable(steps.param_shapes(model))
    return floor.update(ceilings, model, used["batch"], used["choice"],
                        4 * trained)

  result = speed.run(args, say, sides=sides, floors=floors, change=change)
  return result | {"batch_size": used["batch"]}
