"""Softmax attention that touches the score matrix as rarely as it can.

Scores [B,N,T,S] are by far the largest arrays between the matrix products: at
full size 80 MB per layer and chip even in bfloat16. Only their exponentials
are written, in the compute dtype; the division by their sum waits until the
values are summed, and the gradient is written out by hand, because autodiff
passes over the scores, in float32, several times more.

Axes: B samples, T queries, S keys, N heads, K kv heads, G = N/K, H head size.
"""

import functools

import jax
import jax.numpy as jnp

from drivemoe_jax.models import attention_blocks, precision
from drivemoe_jax.models.attention_blocks import TINY, product

# exp() of it, summed over any sequence, is finite in float32. Scores capped
# below it do without the pass that looks for each row's maximum.
LARGEST_CAP = 80.0


def attend(q, k, v, allowed=None, softcap=0.0):
  """Grouped-query attention, kv head j serving query heads jG..jG+G-1.

  Args:
    q: [B,T,N,H]. k, v: [B,S,K,H].
    allowed: [B,T,S] bool, None allows all. The mask comes after the cap; a
      row without any key is garbage, but finite.
    softcap: scores are squashed to +-softcap, at most LARGEST_CAP; 0 leaves
      them.

  Returns:
    [B,T,N,H].
  """
  b, t, n, h = q.shape
  q = q.reshape(b, t, k.shape[2], -1, h)                 # [B,T,K,G,H]
  out = precision.by_backend(
      q, k, v, allowed, default=functools.partial(_attend, softcap=softcap),
      cpu=functools.partial(attention_blocks.attend, softcap=softcap))
  return out.reshape(b, t, n, h)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, allowed, softcap):
  return _forward(q, k, v, allowed, softcap)[0]


def _forward(q, k, v, allowed, softcap):
  scores = product("btkgh,bskh->bkgts", q, k) * q.shape[-1] ** -0.5
  if softcap:
    scores = softcap * jnp.tanh(scores / softcap)
  if allowed is not None:
    scores = jnp.where(allowed[:, None, None], scores,
                       jnp.finfo(jnp.float32).min)
  if not softcap:
    scores = scores - scores.max(-1, keepdims=True)
  e = jnp.exp(scores)                                    # [B,K,G,T,S] float32
  total = e.sum(-1)
  share = jnp.where(total > 0.0, 1.0 / jnp.maximum(total, TINY), 0.0)
  e = e.astype(q.dtype)
  out = product("bkgts,bskh->bkgth", e, v) * share[..., None]
  out = out.astype(v.dtype)
  return out.transpose(0, 3, 1, 2, 4), (q, k, v, e, share, out)


def _backward(softcap, kept, dout):
  """With p = e/total: dS = p (dP - sum of out dout), times the cap's slope."""
  q, k, v, e, share, out = kept
  dout = dout.transpose(0, 2, 3, 1, 4)                   # [B,K,G,T,H]
  delta = jnp.sum(dout.astype(jnp.float32) * out.astype(jnp.float32), -1)
  shared = (dout.astype(jnp.float32) * share[..., None]).astype(dout.dtype)
  dv = product("bkgts,bkgth->bskh", e, shared)
  ds = product("bkgth,bskh->bkgts", dout, v) - delta[..., None]
  e = e.astype(jnp.float32)
  ds = ds * (e * share[..., None])
  if softcap:  # the capped score is log e; where e is 0, so is ds
    ds = ds * (1.0 - (jnp.log(jnp.maximum(e, TINY)) / softcap) ** 2)
  ds = (ds * q.shape[-1] ** -0.5).astype(q.dtype)
  dq = product("bkgts,bskh->btkgh", ds, k)
  dk = product("bkgts,btkgh->bskh", ds, q)
  return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attend.defvjp(_forward, _backward)
