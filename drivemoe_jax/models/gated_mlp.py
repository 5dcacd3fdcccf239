"""Gemma's gated MLP, with its gradient written out.

Axes: B samples, T tokens, D width, F hidden width, E experts.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from drivemoe_jax.models import precision

FEW = 256  # tokens beside which a copy of the weights counts


@jax.custom_vjp
def gated_mlp(x, gating, linear, share=None):
  """linear(gelu(gate x) * up x): [B,T,D], [2,D,F], [F,D] -> [B,T,D].

  With `share` [B,T,E] the hidden layer is E stretches of F/E numbers, each
  times its share: E experts in one.
  """
  def at_once(x, gating, linear, share):
    # One product for both halves: a sampler reads the weights where they lie,
    # and would copy them to take halves of them.
    gate, up = precision.stacked("btd,gdf->gbtf", x, gating, dtype=x.dtype)
    return precision.einsum("btf,fd->btd", _hidden(gate, up, share), linear,
                            dtype=x.dtype)

  if x.shape[0] * x.shape[1] <= FEW:
    return at_once(x, gating, linear, share)
  return precision.by_backend(
      x, gating, linear, share, default=at_once,
      cpu=lambda *args: _forward(*args)[0])


# In training the hidden layer is the widest array of the model, and the
# compiler likes to compute its activation anew for every tile of the product
# that reads it. The barriers and the gradient written out keep one pass each.
def _forward(x, gating, linear, share):
  product = functools.partial(precision.einsum, dtype=x.dtype)
  gate = jax.lax.optimization_barrier(product("btd,df->btf", x, gating[0]))
  up = product("btd,df->btf", x, gating[1])
  h = jax.lax.optimization_barrier(_hidden(gate, up, share))  # [B,T,F]
  return product("btf,fd->btd", h, linear), (x, gating, linear, share, gate,
                                             up)


def _backward(kept, dy):
  x, gating, linear, share, *kept = kept
  product = functools.partial(precision.einsum, dtype=x.dtype)
  gate, up = jax.lax.optimization_barrier(kept)
  h, back = jax.vjp(_hidden, gate, up, share)
  *both, dshare = jax.lax.optimization_barrier(
      back(product("btd,fd->btf", dy, linear)))          # 2x [B,T,F], [B,T,E]
  dx = sum(product("btf,df->btd", d, w, out=jnp.float32)
           for d, w in zip(both, gating))
  dgating = jnp.stack([product("btd,btf->df", x, d) for d in both])

  def narrow_turned(h, dy):
    # A CPU turns one side of this product around first: rather the narrow one.
    h = jax.lax.optimization_barrier(h)
    return jax.lax.optimization_barrier(product("btd,btf->df", dy, h)).T

  dlinear = precision.by_backend(
      h, dy, cpu=narrow_turned,
      default=functools.partial(product, "btf,btd->fd"))
  return dx.astype(x.dtype), dgating, dlinear, dshare  # pyright: ignore[reportAttributeAccessIssue]


gated_mlp.defvjp(_forward, _backward)


def _hidden(gate, up, share):                            # [B,T,F], [B,T,E]
  h = jax.nn.gelu(gate, approximate=True) * up
  if share is None:
    return h
  return (h.reshape(*share.shape, -1)
          * share[..., None].astype(h.dtype)).reshape(h.shape)


class GatedMlp(nn.Module):
  """linear(gelu(gate x) * up x) without biases; gate before up."""

  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):                                 # [B,T,D] -> [B,T,D]
    d, f = x.shape[-1], self.hidden
    init = nn.initializers.lecun_normal
    gating = self.param("gating_einsum", init(in_axis=1, out_axis=2,
                                              batch_axis=(0,)), (2, d, f))
    linear = self.param("linear", init(), (f, d))
    return gated_mlp(x.astype(self.dtype),
                     precision.gathered(gating, self.dtype),
                     precision.gathered(linear, self.dtype))
