"""A training step: forward, backward, update; ours and PyTorch's.

Stage 1 on random batches, without the camera router's dropout, so that both
sides compute the same; theirs is given the noise that ours draws.
"""

from launch.bench import floor, speed


def add_arguments(parser):
  speed.add_arguments(parser, runs=10)
  parser.add_argument("--batch-size", type=int,
                      help="default: the config's for one device")


def race(args):
  """speed.Race of the training steps."""
  config = speed.load_config(args)
  batch = args.batch_size or config.per_device_batch or config.global_batch
  with config.unlocked():
    config.model.camera_dropout = 0.0
    config.global_batch = config.per_device_batch = batch

  def makers(path):
    from launch.bench import jax_sides
    made = {"jax": (jax_sides.Update, config, path, batch)}
    if args.against:
      from launch.bench import torch_sides
      made |= {form: (torch_sides.Update, config, path, batch, args.threads,
                      form) for form in speed.PYTORCH}
    return made

  def floors(ceilings, model, name):
    del name
    from drivemoe_jax import optim
    from drivemoe_jax import step as steps
    trained = optim.num_trainable(steps.param_shapes(model))
    return floor.update(ceilings, model, batch, config.camera_choice,
                        4 * trained)

  return speed.Race(config, makers, floors, batch)


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  made = race(args)
  return speed.run(args, say, made) | {"batch_size": made.batch_size}
