"""Floating point operations of one forward pass, from the sizes alone.

Two per multiply-add of every matrix product whose result is used; a sample
counts with the experts that its router keeps. Norms, softmax, the routers and
the small heads are left out (0.2 % together). PaliGemma-3B with three images:
3.712 T (vision 0.661, language 2.951, attention 0.088, plan 0.012).
"""

from drivemoe_jax.models import siglip


def vision(model, images):
  """SigLIP with its projector for `images` images."""
  n, w = (model.image_size // model.patch_size) ** 2, model.vision_width
  layer = 4 * w * w + 2 * w * model.vision_mlp
  weights = (model.vision_layers * layer + w * model.vlm_width
             + _embedding(model))
  attention = 4 * n * n * w * model.vision_layers
  return images * (2 * n * weights + attention)


def _embedding(model):
  """Multiply-adds of a patch until it is a token."""
  p, w = model.patch_size, model.vision_width
  if model.vision_stem == "patch":
    return 3 * p * p * w
  first, second = w // 4, w // 2  # channels, at a half and a quarter
  return ((p // 2) ** 2 * 27 * first
          + (p // siglip.REDUCED) ** 2 * second * (9 * first + w))


def prefix(model):
  """{"language", "attention"} of the streams that do not see the plan.

  The last layer's language queries, outputs and MLP feed nothing.
  """
  d, heads = model.vlm_width, model.heads * model.head_dim
  key_value = 2 * d * model.kv_heads * model.head_dim
  layer = 2 * d * heads + key_value + 3 * d * model.vlm_mlp
  keys = model.tokens + model.history
  return {
      "language": 2 * model.tokens * ((model.layers - 1) * layer + key_value),
      "attention": 4 * keys * keys * heads * (model.layers - 1)}


def expert_layer(model):
  """{"attention", "mlp"}: weights of one layer of an expert stream."""
  a = model.expert_width
  return {"attention": 2 * a * model.head_dim * (model.heads + model.kv_heads),
          "mlp": 3 * a * model.expert_mlp}


def action(model):
  """The plan's tokens through all layers, once."""
  layer = expert_layer(model)
  experts = model.top_k + model.shared_experts
  return 2 * model.horizon * (
      model.layers * layer["attention"]
      + (model.layers - model.moe_layers + model.moe_layers * experts)
      * layer["mlp"])


def history(model):
  """The ego history's tokens through all layers, once."""
  return 2 * model.history * model.layers * sum(expert_layer(model).values())


def images_seen(model, camera_choice):
  """Images that one sample encodes."""
  if model.view != "dynamic":
    return 2 + len(model.view)
  return 2 + (model.num_views if camera_choice == "straight_through" else 1)


def forward(model, camera_choice="argmax", steps=1):
  """One sample; `steps` passes of the plan behind one prefix."""
  return (vision(model, images_seen(model, camera_choice))
          + sum(prefix(model).values()) + history(model)
          + steps * action(model))
