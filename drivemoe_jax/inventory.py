"""What a run would be: its parameters by component, mesh and memory.

Everything comes from shapes; nothing is computed, opened or allocated.
"""

import math
import re

import jax

from configs import common
from data_pipeline import masking
from drivemoe_jax import build, meshes, optim, sharding
from drivemoe_jax import step as steps

# Ordered, first full match wins: the rows of the released model's own count.
# Layers that both expert streams share count as the action stream's.
COMPONENTS = (
    (r"llm/embedder/.*", "embed_tokens"),
    (r"img/head/.*", "projector"),
    (r"img/.*", "vision_tower"),
    (r"llm/.*", "vlm"),
    (r"expert/proprio/.*", "proprio_only"),
    (r"expert/.*", "action_mixture"),
    (r"io/action_in/.*", "action_encoder"),
    (r"io/action_out/.*", "action_decoder"),
    (r"io/proprio_in/.*", "proprio_encoder"),
    (r"router/skill/.*", "action_router"),
    (r"router/camera/.*", "camera_router"),
    (r"view_embedding", "view_embeddings"),
)


def _component(name):
  for pattern, component in COMPONENTS:
    if re.fullmatch(pattern, name):
      return component
  raise ValueError(f"no component for parameter {name!r}; add one to "
                   "inventory.COMPONENTS")


def parameters(shapes):
  """{component: number of parameters}, in the order of COMPONENTS."""
  count = {component: 0 for _, component in COMPONENTS}
  for path, x in jax.tree_util.tree_leaves_with_path(shapes):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    count[_component(name)] += math.prod(x.shape)
  return {component: n for component, n in count.items() if n}


def experts(shapes, model):
  """{"skill" | "shared": parameters} of the action stream's expert stacks."""
  size = sum(math.prod(x.shape) for path, x in
             jax.tree_util.tree_leaves_with_path(shapes)
             if "['moe']['" in jax.tree_util.keystr(path[-2:]))
  stack = model.skill_experts + model.shared_experts
  return {"skill": size * model.skill_experts // stack,
          "shared": size * model.shared_experts // stack}


def describe(config):
  """The resolved config, mesh, parameters and optimiser memory as JSON."""
  # A mesh that is stated in full needs no such machine here.
  sizes = build.mesh_sizes(
      config, max(meshes.named_devices(config.mesh), jax.device_count()))
  pieces = build.microbatches(config, sizes)
  model = build.model(config)
  shapes = steps.param_shapes(model)
  tx = build.optimizer(config, shapes)
  count = parameters(shapes)
  return {
      "config": masking.mask(config.to_dict()), "mesh": sizes,
      "microbatches": pieces,
      "tokens": model.tokens, "parameters": count,
      "experts": experts(shapes, model), "unique": sum(count.values()),
      "trainable": optim.num_trainable(shapes, config.optim.freeze_last_value),
      "groups": optim.group_sizes(shapes, config.optim.freeze_last_value),
      "parameter_bytes": 4 * sum(count.values()),
      "placement": sharding.explain(shapes, sizes,
                                    jax.eval_shape(tx.init, shapes)),
      "optimiser_bytes": optim.optimiser_bytes(tx, shapes)}


def text(described, explain=False):
  """The same for a person; `explain` lists where every parameter lies."""
  d = described
  lines = [f"{name:28} {value!r}"
           for name, value in common.flatten(d["config"]).items()]
  lines += ["", f"mesh {d['mesh']}, {d['microbatches']} microbatches, "
            f"{d['tokens']} vlm tokens", ""]
  rows = d["parameters"] | {"total unique": d["unique"],
                            "trainable": d["trainable"]}
  rows |= {f"- {name} group": n for name, n in d["groups"].items()}
  rows |= {f"- {name} experts": n for name, n in d["experts"].items() if n}
  lines += [f"{name:20} {n:>15,}" for name, n in rows.items()]
  lines += ["", *d["placement"][0 if explain else -2:]]
  return "\n".join(lines)
