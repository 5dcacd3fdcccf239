"""Sizes and choices of a model that contradict each other, told before use."""

from drivemoe_jax.models import attention, experts, joint, precision, siglip


def check(model):
  """Raises ValueError, naming both values, where `model` cannot be built."""
  m = model
  if m.image_size % m.patch_size:
    raise ValueError(f"image_size {m.image_size} is no multiple of "
                     f"patch_size {m.patch_size}")
  if m.vision_stem == "conv" and (m.patch_size % siglip.REDUCED
                                  or m.vision_width % siglip.REDUCED):
    raise ValueError(f"vision_stem \"conv\": patch_size {m.patch_size} and "
                     f"vision_width {m.vision_width} must be multiples of "
                     f"{siglip.REDUCED}")
  if m.layers < 2:
    raise ValueError(f"layers {m.layers}: must be 2 or more")
  joint.groups(m.layers, m.moe_layers)
  if m.vision_width % m.vision_heads:
    raise ValueError(f"vision_width {m.vision_width} is no multiple of "
                     f"vision_heads {m.vision_heads}")
  for name in ("head_dim", "time_width" if m.adaptive else "expert_width"):
    if getattr(m, name) % 2:
      raise ValueError(f"{name} {getattr(m, name)}: must be even")
  if m.moe_layers and not 1 <= m.top_k <= m.skill_experts:
    raise ValueError(f"top_k {m.top_k} must lie in 1..skill_experts = "
                     f"{m.skill_experts}")
  if m.heads % m.kv_heads:
    raise ValueError(f"heads {m.heads} is no multiple of kv_heads "
                     f"{m.kv_heads}")
  if not 0 <= m.softcap <= attention.LARGEST_CAP:
    raise ValueError(f"softcap {m.softcap} must lie in 0.."
                     f"{attention.LARGEST_CAP}; 0 switches it off")
  if m.view == "dynamic" and m.vlm_width % m.camera_heads:
    raise ValueError(f"vlm_width {m.vlm_width} is no multiple of "
                     f"camera_heads {m.camera_heads}")
  if m.view != "dynamic" and not (isinstance(m.view, tuple) and all(
      v in range(m.num_views) for v in m.view)):
    raise ValueError(f"view {m.view!r}: \"dynamic\", or a tuple of the "
                     f"num_views = {m.num_views} views, 0 to {m.num_views - 1}")
  for name, known in (("routing", ("trajectory", "token")),
                      ("adaptive", (None, "adaLN", "adaLN-Zero")),
                      ("expert_exchange", experts.EXCHANGES),
                      ("vision_stem", siglip.STEMS),
                      ("remat", ("none", *precision.REMAT)),
                      ("view_embedding_index", ("argmax", "sample"))):
    if getattr(m, name) not in known:
      raise ValueError(f"{name} {getattr(m, name)!r}; known: {known}")
