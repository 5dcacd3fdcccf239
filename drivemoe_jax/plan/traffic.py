"""The least memory traffic that a program can do with, for a lower bound."""

import re

import jax

from drivemoe_jax.plan import shapes

BF16 = 2


def train_bytes(memory):
  """A train step reads and writes its state; temporaries as well, once."""
  return 2 * (memory["arguments"] + memory["temporaries"])


def sampler_bytes(model, steps):
  """A plan reads the prefix's weights once and its own at every step.

  Of the experts only those that the router keeps, of the token table nothing.
  """
  once = again = 0
  share = ((model.top_k + model.shared_experts)
           / (model.skill_experts + model.shared_experts))
  for path, x in jax.tree_util.tree_leaves_with_path(
      shapes.serving(model)):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    size = x.size * x.dtype.itemsize
    idle = r"llm/(embedder/.*|layers/last/(?!attn/kv_einsum).*)"
    if re.fullmatch(idle, name):  # the last layer gives keys and values alone
      continue
    if name.startswith(("expert/action", "expert/shared", "io/action")):
      again += size * (share if "/moe/moe/" in name or "/last/moe/" in name
                       else 1)
    else:
      once += size
    if name.startswith("expert/shared"):
      once += size  # the ego history runs through them, too
  cache = (2 * model.layers * (model.tokens + model.history)
           * model.kv_heads * model.head_dim * BF16)
  return int(once + steps * (again + cache))
