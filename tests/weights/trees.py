"""Parameter trees of any size, as shapes or filled with random numbers."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from drivemoe_jax.models import drivemoe
from drivemoe_jax.weights import blocks, infer, read

HERE = pathlib.Path(__file__).parent
FULL = dict(
    vision_width=1152, vision_layers=27, vision_heads=16, vision_mlp=4304,
    image_size=224, patch_size=14, vlm_width=2048, vlm_mlp=16384,
    expert_width=1024, expert_mlp=4096, layers=18, heads=8, kv_heads=1,
    head_dim=256, moe_layers=4, skill_experts=7, shared_experts=1, top_k=3,
    vocab_size=257216, text_len=20)
# No two sizes agree that could hide a swapped axis; N*H is neither width.
ODD = dict(
    vision_width=12, vision_layers=3, vision_heads=3, vision_mlp=20,
    image_size=6, patch_size=2, vlm_width=16, vlm_mlp=24, expert_width=14,
    expert_mlp=18, layers=5, heads=6, kv_heads=2, head_dim=6, moe_layers=3,
    skill_experts=4, shared_experts=2, top_k=2, vocab_size=40, text_len=3,
    num_views=5, camera_heads=4, camera_hidden=10, history=2, horizon=3,
    time_width=8)
PI0 = dict(moe_layers=0, view=())


def shapes(sizes):
  """Abstract parameters of the model with these sizes."""
  model = drivemoe.DriveMoE(**sizes)
  b, h = 1, model.horizon
  inputs = dict(
      images=jnp.zeros((b, 7, model.image_size, model.image_size, 3)),
      text=jnp.ones((b, model.text_len), jnp.int32),
      proprio=jnp.zeros((b, model.history, model.proprio_dim)),
      goal=jnp.zeros((b, 2)), time=jnp.zeros(b),
      noisy_action=jnp.zeros((b, h, model.action_dim)))
  return jax.eval_shape(
      lambda: model.init(jax.random.key(0), **inputs)["params"])


def random_weights(tree, seed=0):
  """read.Weights of this shape, every number another."""
  rng = np.random.default_rng(seed)
  params = {path: rng.standard_normal(leaf.shape).astype(np.float32)
            for path, leaf in blocks.flatten(tree).items()}
  alphas = {}
  if "router/skill/kernel" in params:
    alphas["skill"] = rng.random(7).astype(np.float32)
  if "router/camera/query" in params:
    alphas["camera"] = rng.random(5).astype(np.float32)
  return read.Weights(blocks.unflatten(params), alphas, {
      "stage": 2, "horizon_steps": 3, "cond_steps": 2})


def paligemma(sizes, seed=0):
  """read.Weights of PaliGemma alone: one scan group, with the final norm."""
  tree = blocks.shapes_of(shapes(sizes | PI0))
  groups = [path for path in tree if path.startswith("llm/layers/dense/")]
  tree = {path: shape for path, shape in tree.items()
          if path.startswith(("img/", "llm/"))}
  for path in groups:
    last = tree.pop(path.replace("/dense/", "/last/"))
    tree[path] = (tree[path][0] + last[0], *last[1:])
  rng = np.random.default_rng(seed)
  params = {path: rng.standard_normal(shape).astype(np.float32)
            for path, shape in tree.items()}
  norm = rng.standard_normal(sizes["vlm_width"]).astype(np.float32)
  return read.Weights(blocks.unflatten(params), {}, {}, {read.CARRIED: norm},
                      infer.heads(tree))
