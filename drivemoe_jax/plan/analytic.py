"""Memory by arithmetic, for where no TPU compiler is installed.

The state is exact: every leaf by its sharding. The rest is a formula over the
tensors that live longest, calibrated on compiled programs (docs/plan.md); it is
within a third of them and is marked as an estimate wherever it is shown.
"""

import math

import jax
from jax.sharding import AbstractMesh

from drivemoe_jax import build, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.plan import flops, shapes

F32, BF16 = 4, 2


def memory(config, sizes):
  """{"arguments", "temporaries", "peak"} bytes per device of a train step."""
  model = build.model(config)
  params, (_, state) = steps.param_shapes(model), shapes.state(config)
  devices = math.prod(sizes.values())
  batch = shapes.batch(model, config.global_batch)
  held = (placed_bytes(state, params, sizes)
          + sum(x.size * x.dtype.itemsize for x in batch.values()) // devices)
  samples = (config.global_batch // devices
             // build.microbatches(config, sizes))
  gradients = placed_bytes(params, params, sizes)
  temporaries = gradients + _gathered(model) + samples * _activations(
      model, flops.images_seen(model, config.camera_choice))
  return {"arguments": held, "temporaries": temporaries,
          "peak": held + temporaries}


def sampler_memory(config, batch):
  """The same of a sampler on one device."""
  model = build.model(config)
  params = shapes.serving(model)
  held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
  cache = (2 * model.layers * (model.tokens + model.history)
           * model.kv_heads * model.head_dim * BF16)
  temporaries = batch * (cache + 4 * model.tokens * model.vlm_mlp * BF16)
  return {"arguments": held, "temporaries": temporaries,
          "peak": held + temporaries}


def placed_bytes(tree, params, sizes):
  """Bytes per device of a tree that holds copies of parameters."""
  mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
  places = sharding.infer_state(tree, params, mesh)
  return sum(math.prod(place.shard_shape(x.shape)) * x.dtype.itemsize
             for x, place in zip(jax.tree.leaves(tree),
                                 jax.tree.leaves(places)))


def _gathered(model):
  """Weights of the layer at work and of the next one, whole, and the
  gradient of one of them before it is shared out."""
  d = model.vlm_width
  layer = 3 * d * model.vlm_mlp + 2 * d * model.head_dim * (
      model.heads + model.kv_heads)
  return 3 * layer * BF16


def _activations(model, images):
  """Bytes per sample that a backward pass finds or needs.

  Kept: each layer's input ("full"), or also its products ("dots"), or also
  what lies between them ("none"). At work: one layer's attention over all
  streams and its MLP, forwards and backwards.
  """
  patches = images * (model.image_size // model.patch_size) ** 2
  rows = model.tokens + model.history + model.horizon
  logits = model.heads * rows * rows
  heads = 2 * model.head_dim * (model.heads + model.kv_heads)
  inputs = (patches * model.vision_width * model.vision_layers
            + model.tokens * model.vlm_width * model.layers)
  products = (
      patches * model.vision_layers
      * (5 * model.vision_width + model.vision_mlp)
      + model.tokens * model.layers
      * (heads + model.vlm_width + 2 * model.vlm_mlp))
  between = model.layers * (logits * (F32 + BF16) + BF16 * model.tokens * (
      2 * model.vlm_mlp + 4 * model.vlm_width))
  kept = {"full": BF16 * inputs, "dots": BF16 * (inputs + products),
          "none": BF16 * (inputs + products) + between}[model.remat]
  at_work = 3 * F32 * logits + 6 * BF16 * model.tokens * model.vlm_mlp
  return kept + at_work
