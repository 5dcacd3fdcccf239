"""Softmax attention on a processor with caches: few scores at a time.

Scores that leave the cache cost more than the products that make them. Here
one head's are made, used and forgotten, and the gradient makes them again.

Axes: B samples, T queries, S keys, K kv heads, G query heads of each, H head
size.
"""

import functools

import jax
import jax.numpy as jnp

from drivemoe_jax.models import precision

CACHED = 2**20                 # scores that a cache holds, about
TINY = jnp.finfo(jnp.float32).tiny


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def attend(q, k, v, allowed, softcap):
  """[B,T,K,G,H], 2x [B,S,K,H], [B,T,S] or None -> [B,T,K,G,H]."""
  return _forward(q, k, v, allowed, softcap)[0]


def _forward(q, k, v, allowed, softcap):
  head = lambda allowed, k, v, q: _head(q, k, v, allowed, softcap)
  out, share = _over_heads(head, allowed, k, v, _by_head(q))
  return out.transpose(0, 3, 1, 2, 4), (q, k, v, allowed, out, share)


def _backward(softcap, kept, dout):
  q, k, v, allowed, out, share = kept
  head = lambda allowed, k, v, *rest: _head_gradient(
      *rest, k, v, allowed, softcap)  # pyright: ignore[reportCallIssue]
  dq, dk, dv = _over_heads(head, allowed, k, v, _by_head(q), out, share,
                           _by_head(dout))               # by query head
  by_key = lambda x: x.sum(2).transpose(0, 2, 1, 3)
  return dq.transpose(0, 3, 1, 2, 4), by_key(dk), by_key(dv), None


attend.defvjp(_forward, _backward)


def _by_head(x):                                         # -> [B,K,G,T,H]
  return x.transpose(0, 2, 3, 1, 4)


def _over_heads(head, allowed, k, v, q, *more):
  """Calls head(allowed [T,S], k, v [S,H], q, *more [T,...]) for each of B, K,
  G; together where all their scores fit the cache, else one by one."""
  scores = q.shape[3] * k.shape[1]

  def each(count, f):
    if count * scores <= CACHED:
      return jax.vmap(f)
    return lambda *args: jax.lax.map(lambda one: f(*one), args)

  heads = q.shape[1] * q.shape[2]
  in_group = lambda allowed, k, v, *rest: each(
      heads, lambda *one: head(allowed, k, v, *one))(*rest)
  in_sample = lambda allowed, k, v, *rest: each(
      heads, lambda *one: in_group(allowed, *one))(k, v, *rest)
  k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
  return each(len(q) * heads, in_sample)(allowed, k, v, q, *more)


def _exponentials(q, k, allowed, softcap):
  """exp of the scores less a constant of the row, slope of the cap: [T,S]."""
  scores = product("th,sh->ts", q, k) * q.shape[-1] ** -0.5
  slope = 1.0
  if softcap:  # bounded, so that exp needs no maximum
    level = jnp.tanh(scores / softcap)
    scores, slope = softcap * level, 1.0 - level * level
  if allowed is not None:
    scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
  if not softcap:
    scores = scores - scores.max(-1, keepdims=True)
  return jnp.exp(scores), slope


def _head(q, k, v, allowed, softcap):
  """[T,H], 2x [S,H], [T,S] -> [T,H] and 1/sum of the exponentials [T]."""
  e, _ = _exponentials(q, k, allowed, softcap)
  total = e.sum(-1)
  share = jnp.where(total > 0.0, 1.0 / jnp.maximum(total, TINY), 0.0)
  out = product("ts,sh->th", e.astype(v.dtype), v) * share[:, None]
  return out.astype(v.dtype), share


def _head_gradient(q, out, share, dout, k, v, allowed, softcap):
  """With p = e/total: dS = p (dP - sum of out dout), times the cap's slope."""
  e, slope = _exponentials(q, k, allowed, softcap)
  p = e * share[:, None]
  delta = jnp.sum(dout.astype(jnp.float32) * out.astype(jnp.float32), -1)
  ds = p * slope * (product("th,sh->ts", dout, v) - delta[:, None])
  ds = (ds * q.shape[-1] ** -0.5).astype(q.dtype)
  grads = (product("ts,sh->th", ds, k), product("ts,th->sh", ds, q),
           product("ts,th->sh", p.astype(dout.dtype), dout))
  return tuple(g.astype(q.dtype) for g in grads)


def product(equation, x, y):
  """einsum in the type of x, summed and given in float32."""
  return precision.einsum(equation, x, y, dtype=x.dtype, out=jnp.float32)
