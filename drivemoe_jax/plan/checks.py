"""What a compiled program must not do with the weights.

Weights are gathered in bfloat16 only, the token table never, experts never
over the axis that shares them out, and a sampler reads weights in place.
"""

import jax

from drivemoe_jax.plan import hlo

SMALL = 2**20  # bytes; what is smaller than this no check looks at


def gathers(program, shapes, model, sizes):
  """Looks through the all-gathers of a train step.

  Args:
    program: hlo.Program. shapes: of the parameters.
    model: for the table's and the experts' sizes. sizes: of the mesh.

  Returns:
    {"parameter_bytes", and lists of text "not_bf16", "embedding", "experts"}.
  """
  layer_shapes = set()
  for x in jax.tree.leaves(shapes):
    layer_shapes |= {_bare(x.shape), _bare(x.shape[1:])}
  layer_shapes = {s for s in layer_shapes if len(s) > 1}
  found = {"parameter_bytes": 0, "not_bf16": [], "embedding": [],
           "experts": []}
  count = model.skill_experts + model.shared_experts
  for moved in program.collectives:
    if moved.kind != "all-gather":
      continue
    for dtype, shape in moved.arrays:
      is_parameter = _bare(shape) in layer_shapes
      if is_parameter:
        found["parameter_bytes"] += moved.times * hlo.size(dtype, shape)
        if dtype != "bf16" and hlo.size(dtype, shape) >= SMALL:
          found["not_bf16"].append(str(moved))
      if _bare(shape) == _bare((model.vocab_size, model.vlm_width)):
        found["embedding"].append(str(moved))
      # `expert` is the innermost axis of the mesh: ids count along it.
      if (model.moe_layers and moved.dimension is not None
          and shape[moved.dimension] == count
          and len({i % sizes["expert"] for i in moved.group}) > 1):
        found["experts"].append(str(moved))
  return found


def weight_copies(program, shapes):
  """Copies and slices of a sampler that are as large as a weight: text."""
  weights = {_bare(x.shape) for x in jax.tree.leaves(shapes)}
  weights |= {_bare(x.shape[1:]) for x in jax.tree.leaves(shapes)}
  return [str(moved) for moved in program.copies
          if moved.bytes >= SMALL and any(
              len(_bare(shape)) > 1 and _bare(shape) in weights
              for _, shape in moved.arrays)]


def _bare(shape):
  """A shape without its order and its ones, which layouts change freely."""
  return tuple(sorted(n for n in shape if n > 1))
