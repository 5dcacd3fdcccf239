"""The precision policy, in one place.

Master weights are float32. Matrix products take operands in the compute dtype
(bfloat16 by default in training: the hardware accumulates those in float32 and
rounds once) and float32 products run at full precision on every backend, so
that `dtype=float32` is a parity mode. Norms, softmax, RoPE, routers, the time
embedding, the flow and the losses are always float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def matmul_precision(dtype):
  """Full precision for float32, the backend's own for narrower types."""
  full = jnp.dtype(dtype) == jnp.float32
  return jax.lax.Precision.HIGHEST if full else None


def einsum(equation, *operands, dtype, out=None):
  """jnp.einsum on operands cast to `dtype`; `out` asks for a wider result."""
  operands = [x.astype(dtype) for x in operands]
  return jnp.einsum(equation, *operands, precision=matmul_precision(dtype),
                    preferred_element_type=out)


def dense(features, dtype, **kwargs):
  """nn.Dense under this policy: float32 parameters, `dtype` product."""
  return nn.Dense(features, dtype=dtype, precision=matmul_precision(dtype),
                  **kwargs)


def layer_norm(epsilon, dtype, **kwargs):
  """nn.LayerNorm with two-pass statistics in float32, result in `dtype`."""
  return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False,
                      **kwargs)


# What a rematerialised layer keeps for its backward pass.
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def scan_layers(block, length, remat, in_axes=()):
  """Lifts a block to `length` layers whose parameters lead with that axis.

  Args:
    block: module class whose __call__(carry, *inputs) returns (carry, output).
    length: number of layers in the stack.
    remat: "none", "dots" (matrix products are kept) or "full".
    in_axes: 0 or nn.broadcast for each input beside the carry.
  """
  if remat != "none":
    block = nn.remat(block, prevent_cse=False, policy=REMAT[remat])
  return nn.scan(block, variable_axes={"params": 0, "intermediates": 0},
                 split_rngs={"params": True}, in_axes=in_axes, length=length)
