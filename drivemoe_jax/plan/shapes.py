"""Shapes of what goes into a planned program; nothing is computed."""

import jax

from data_pipeline import spec
from drivemoe_jax import build
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import predict


def state(config):
  """(optimiser, TrainState) of a config."""
  model = build.model(config)
  tx = build.optimizer(config, steps.param_shapes(model))
  return tx, steps.state_shapes(model, tx)


def serving(model):
  """Parameters as a policy holds them."""
  return jax.eval_shape(lambda p: predict.serving_weights(p, model.dtype),
                        steps.param_shapes(model))


def batch(model, size):
  """{name: array} of what the train step takes."""
  side, images = model.image_size, len(spec.IMAGES)
  known = {
      "images": ("uint8", images, side, side, 3),
      "text": ("int32", model.text_len),
      "proprio": ("float32", model.history, model.proprio_dim),
      "goal": ("float32", 2),
      "action": ("float32", model.horizon, model.action_dim),
      "camera": ("int32",), "skill": ("int32",)}
  return {name: jax.ShapeDtypeStruct((size, *shape), dtype)
          for name, (dtype, *shape) in known.items()}


def key():
  return jax.eval_shape(lambda: jax.random.key(0))
