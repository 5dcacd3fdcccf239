"""Shapes of everything that goes into a planned program; nothing is computed.

Tracing the model takes seconds, and a plan asks for its parameters again and
again, so they are remembered.
"""

import functools

import jax

from data_pipeline import spec
from drivemoe_jax import build
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import predict


@functools.lru_cache(maxsize=8)
def params(model):
  """Parameters as training holds them."""
  return steps.param_shapes(model)


def state(config):
  """(optimiser, TrainState) of a config."""
  p = params(build.model(config))
  tx = build.optimizer(config, p)
  return tx, jax.eval_shape(lambda p: steps.new_state(p, tx), p)


def serving(model):
  """Parameters as a policy holds them."""
  return jax.eval_shape(lambda p: predict.serving_weights(p, model.dtype),
                        params(model))


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
