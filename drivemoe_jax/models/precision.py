"""The precision policy, in one place.

Master weights are float32. Matrix products take operands in the compute dtype
(bfloat16 by default in training: the hardware accumulates those in float32 and
rounds once) and float32 products run at full precision on every backend, so
that `dtype=float32` is a parity mode. Norms, softmax, RoPE, routers, the time
embedding, the flow and the losses are always float32.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype


def matmul_precision(dtype):
  """Full precision for float32, the backend's own for narrower types."""
  full = jnp.dtype(dtype) == jnp.float32
  return jax.lax.Precision.HIGHEST if full else None


def einsum(equation, *operands, dtype, out=None):
  """jnp.einsum on operands cast to `dtype`; `out` asks for a wider result."""
  operands = [x.astype(dtype) for x in operands]
  return jnp.einsum(equation, *operands, precision=matmul_precision(dtype),
                    preferred_element_type=out)


def by_backend(*args, cpu, default):
  """Calls one of two functions that mean the same, by where it will run.

  Several devices take the default, which the compiler can split.
  """
  if jax.sharding.get_abstract_mesh().size > 1:
    return default(*args)
  return jax.lax.platform_dependent(*args, cpu=cpu, default=default)


def stacked(equation, x, w, *, dtype):
  """einsum of tokens with a stack of weights: [B,T,D], [...,D,F].

  A TPU reads weights where they lie. A CPU would first turn them around for
  all products at once, which for the few tokens of a plan is most of the work:
  there each product is one of a batch, and the tokens are repeated.
  """
  inputs, out = equation.split("->")
  tokens, weights = inputs.split(",")
  natural = weights[:-2] + tokens[:-1] + weights[-1]

  def batched(x, w):
    many = jnp.broadcast_to(x, (*w.shape[:-2], *x.shape))
    y = einsum(f"{weights[:-2]}{tokens},{weights}->{natural}", many, w,
               dtype=dtype)
    return y.transpose([natural.index(letter) for letter in out])

  whole = functools.partial(einsum, equation, dtype=dtype)
  if x.shape[0] * x.shape[1] > w.shape[-1]:  # then repeating is more to move
    return whole(x, w)
  return by_backend(x, w, cpu=batched, default=whole)


def gathered(w, dtype, axes=None):
  """A weight as a product wants it: cast, then brought together.

  In this order what moves between the devices is in `dtype`. Called inside
  the scanned layer, it keeps one layer's weights at a time.

  Args:
    axes: logical names of the axes that stay apart; None for none.
  """
  return _together(w.astype(dtype), axes or (None,) * w.ndim)


# The gradient of a constraint is the same constraint. Here that would ask for
# whole gradients on every device, where each needs its shard alone; so the
# gradient passes freely, to where the train step wants it.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _together(w, axes):
  return nn.with_logical_constraint(w, axes)


_together.defvjp(lambda w, axes: (_together(w, axes), None),
                 lambda axes, _, gradient: (gradient,))


def _promote(x, kernel, bias, *, dtype, **kwargs):
  x, kernel, bias = promote_dtype(x, kernel, bias, dtype=dtype, **kwargs)
  return x, gathered(kernel, kernel.dtype), bias


def dense(features, dtype, **kwargs):
  """nn.Dense, or with `axis` nn.DenseGeneral, under this policy.

  Float32 parameters, `dtype` product.
  """
  layer = nn.DenseGeneral if "axis" in kwargs else nn.Dense
  return layer(features, dtype=dtype, precision=matmul_precision(dtype),
               promote_dtype=_promote, **kwargs)


def conv(features, kernel_size, dtype, **kwargs):
  """nn.Conv under this policy; the kernel is brought together as dense's."""
  return nn.Conv(features, kernel_size, dtype=dtype,
                 precision=matmul_precision(dtype), promote_dtype=_promote,
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


def scan_layers(block, length, remat, in_axes=(), unroll=False):
  """Lifts a block to `length` layers whose parameters lead with that axis.

  Args:
    block: module class whose __call__(carry, *inputs) returns (carry, output).
    length: number of layers in the stack.
    remat: "none", "dots" (matrix products are kept) or "full".
    in_axes: 0 or nn.broadcast for each input beside the carry.
    unroll: one layer after the other in the program, in place of a loop.
  """
  if remat != "none":
    block = nn.remat(block, prevent_cse=False, policy=REMAT[remat])
  return nn.scan(block, variable_axes={"params": 0, "intermediates": 0},
                 split_rngs={"params": True}, in_axes=in_axes, length=length,
                 unroll=length if unroll else 1)
