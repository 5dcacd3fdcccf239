"""The experts of one layer: skill and shared experts in one stack.

The shared expert is one more slot with weight 1, so that a mesh axis of 2, 4
or 8 divides the released 7 + 1. Every expert is computed on every token and
weighted: exact, dropless, and 0.3 % of the model's work, because an action
stream has ten tokens beside a prefix of 788. It also loads all devices alike,
whichever of them holds the shared expert, which every token needs. Only where
a single plan is made, and reading weights is all that it costs, and on a CPU,
where products are dear, are the chosen experts computed alone.

Axes: B samples, T tokens, R routed groups (1 = whole trajectory, or T),
E experts, D width, F hidden width, G devices of an expert group.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from drivemoe_jax.models import gated_mlp, precision

EXCHANGES = ("constraint", "shard_map")
BLOCK = 80  # tokens; with fewer the weights of an expert are read too often


class ExpertBank(nn.Module):
  """Weighted sum of gated MLPs. An expert of weight 0 gets no gradient.

  `exchange` says how tokens meet experts that other devices hold:
  "constraint" leaves it to the compiler, "shard_map" spells out two
  all-to-alls. Where nothing is split over an expert axis they are the same.
  """

  experts: int
  hidden: int
  dtype: jnp.dtype
  exchange: str = "constraint"

  @nn.compact
  def __call__(self, x, weights, active=0):              # [B,T,D], [B,R,E]
    """[B,T,D]; `active` promises that no more experts have a weight."""
    e, d, f = self.experts, x.shape[-1], self.hidden
    init = nn.initializers.lecun_normal
    gating = self.param("gating_einsum", init(in_axis=2, out_axis=3,
                                              batch_axis=(0, 1)), (e, 2, d, f))
    linear = self.param("linear", init(in_axis=1, out_axis=2,
                                       batch_axis=(0,)), (e, f, d))
    if (self.exchange == "shard_map" and _group() > 1
        and not self.is_initializing()):  # whose one sample cannot be split
      return exchanged(x, weights, gating, linear, self.dtype)
    if 0 < active < e and weights.shape[:2] == (1, 1) and _group() == 1:
      return chosen(x, weights, gating, linear, active, self.dtype)
    whole = functools.partial(dense, dtype=self.dtype)
    tokens = x.shape[0] * x.shape[1]
    if 0 < active < e and tokens >= 2 * BLOCK:
      return precision.by_backend(
          x, weights, gating, linear, default=whole,
          cpu=functools.partial(grouped, active=active, dtype=self.dtype))
    if tokens > d:  # then turning their hidden layer is more to move
      return precision.by_backend(
          x, weights, gating, linear, default=whole,
          cpu=functools.partial(side_by_side, dtype=self.dtype))
    return whole(x, weights, gating, linear)


def dense(x, weights, gating, linear, dtype):
  """The bank with every expert on every token; arguments as of grouped."""
  # Under expert parallelism each device holds some experts and sees all
  # tokens of its expert group; the last sum crosses the group.
  x = nn.with_logical_constraint(x, ("expert_batch", None, None))
  weights = nn.with_logical_constraint(weights, ("batch", None, None))
  share = nn.with_logical_constraint(weights.transpose(2, 0, 1),
                                     ("expert", "expert_batch", None))
  gathered = lambda w: precision.gathered(
      w, dtype, ("expert",) + (None,) * (w.ndim - 1))
  h = hidden_layer(x, gathered(gating), share, dtype)    # [E,B,T,F]
  h = nn.with_logical_constraint(h, ("expert", "expert_batch", None, None))
  y = precision.einsum("ebtf,efd->btd", h, gathered(linear), dtype=dtype)
  return nn.with_logical_constraint(y, ("batch", None, None))


def side_by_side(x, weights, gating, linear, dtype):
  """The bank as one MLP as wide as all experts; arguments as of grouped.

  As `dense`, but the weights are laid out anew and the hidden layer, whose
  experts `dense` puts first, lies as its products leave it: for one CPU.
  """
  (b, t, d), (e, f, _) = x.shape, linear.shape
  wide = jax.lax.optimization_barrier(gating.astype(dtype).transpose(
      1, 2, 0, 3).reshape(2, d, e * f))
  return gated_mlp.gated_mlp(x.astype(dtype), wide,
                             linear.astype(dtype).reshape(e * f, d),
                             jnp.broadcast_to(weights, (b, t, e)))


def hidden_layer(x, gating, share, dtype):
  """Weighted hidden layers: [B,T,D], [E,2,D,F], [E,B,R] -> [E,B,T,F]."""
  gate, up = precision.stacked("btd,egdf->gebtf", x, gating, dtype=dtype)
  h = jax.nn.gelu(gate, approximate=True) * up
  return h * share[..., None].astype(dtype)


def chosen(x, weights, gating, linear, active, dtype):
  """The bank for one sample: only `active` experts are read, one at a time.

  Two samples already want most experts, and a loop has no use for their batch.
  """
  share, index = jax.lax.top_k(weights[0, 0], active)    # [K], [K]

  take = lambda w, e: jax.lax.dynamic_slice_in_dim(w, e, 1).astype(dtype)
  total = jnp.zeros(x.shape, jnp.float32)
  for k in range(active):  # not scanned: a loop would be handed copies
    e = index[k]
    h = hidden_layer(x, take(gating, e), share[k][None, None, None], dtype)
    total += precision.einsum("ebtf,efd->btd", h, take(linear, e), dtype=dtype,
                              out=jnp.float32)
  return total.astype(dtype)


def grouped(x, weights, gating, linear, active, dtype):
  """The bank in blocks of tokens that want the same expert, dropless.

  Fewer products than `dense`, but a loop, whose length the tokens decide: it
  has no gradient, and pays on a CPU alone (docs/speed.md).

  Args:
    x: [B,T,D], weights: [B,R,E], no more than `active` of them above 0.
    gating: [E,2,D,F], linear: [E,F,D].
  """
  (b, t, d), e = x.shape, len(gating)
  rows = x.reshape(b * t, d)
  share, index = jax.lax.top_k(jnp.broadcast_to(
      weights, (b, t, e)).reshape(b * t, e), active)     # [BT,K]
  order = jnp.argsort(index.reshape(-1))                 # [BTK] by expert
  wanted, count = index.reshape(-1)[order], jnp.bincount(
      index.reshape(-1), length=e)
  blocks = -(-count // BLOCK)                            # [E]
  ends = jnp.cumsum(blocks)
  rank = jnp.arange(len(order)) - (jnp.cumsum(count) - count)[wanted]
  slot = (ends - blocks)[wanted] * BLOCK + rank          # [BTK]
  most = len(order) // BLOCK + e
  token = jnp.zeros(most * BLOCK, int).at[slot].set(order // active)
  weight = jnp.zeros(most * BLOCK, share.dtype).at[slot].set(
      share.reshape(-1)[order])                          # 0 in what is left
  owner = jnp.searchsorted(ends, jnp.arange(most), side="right")

  def block(i, out):
    part = lambda a: jax.lax.dynamic_slice_in_dim(a, i * BLOCK, BLOCK)
    take = lambda w: jax.lax.dynamic_slice_in_dim(w, owner[i], 1)
    h = hidden_layer(rows[part(token)][None], take(gating),
                     part(weight)[None, None], dtype)
    y = precision.einsum("ebtf,efd->btd", h, take(linear), dtype=dtype)
    return jax.lax.dynamic_update_slice_in_dim(out, y[0], i * BLOCK, 0)

  out = jax.lax.fori_loop(0, ends[-1], block,
                          jnp.zeros((most * BLOCK, d), dtype))
  place = jnp.zeros(len(order), int).at[order].set(slot)
  return out[place].reshape(b, t, active, d).astype(jnp.float32).sum(
      2).astype(dtype)


def exchanged(x, weights, gating, linear, dtype):
  """The bank with its exchange spelt out, for a mesh in context.

  Each device sends its tokens to all devices of its expert group, with the
  weights of the experts that live there, computes its own experts on what
  came, and sends the results back to be summed. No capacity, so no drop: a
  token may want every device, and shapes must not depend on the data.

  Args:
    x: [B,T,D], weights: [B,R,E], split over the batch axes.
    gating: [E,2,D,F], linear: [E,F,D], split over experts and hidden width.
  """
  batch, expert, width = map(_mesh_axes, ("batch", "expert", "expert_hidden"))
  copies = tuple(axis for axis in batch if axis not in (expert, width))
  swap = lambda t: jax.lax.all_to_all(t, expert, 0, 0)   # [G,...] by device

  def gathered(w, dimension):
    # Named as a copy before the gather: its gradient is first scattered, then
    # summed over the copies, which is less to send.
    w = jax.lax.pcast(w, copies, to="varying").astype(dtype)
    return jax.lax.all_gather(w, width, axis=dimension, tiled=True)

  def local(x, weights, gating, linear):
    group, b = jax.lax.axis_size(expert), len(x)
    came = swap(jnp.broadcast_to(x.astype(dtype), (group, *x.shape)))
    share = swap(jnp.moveaxis(
        weights.reshape(b, weights.shape[1], group, -1), 2, 0))  # [G,b,R,e]
    merge = lambda t: t.reshape(group * b, *t.shape[2:])
    h = hidden_layer(merge(came), gathered(gating, 3),
                     merge(share).transpose(2, 0, 1), dtype)
    y = precision.einsum("ebtf,efd->btd", h, gathered(linear, 1), dtype=dtype)
    y = swap(y.reshape(group, *x.shape))
    return y.astype(jnp.float32).sum(0).astype(dtype)

  return jax.shard_map(
      local, in_specs=(P(batch), P(batch), P(expert, None, None, width),
                       P(expert, width)),
      out_specs=P(batch))(x, weights, gating, linear)


def _group():
  """Devices of an expert group, 1 where no mesh splits the experts."""
  shape = jax.sharding.get_abstract_mesh().shape
  return shape.get(_mesh_axes("expert"), 1)


def _mesh_axes(name):
  """Mesh axes of a logical name; None where no rules are in force."""
  return (nn.logical_to_mesh_axes((name,)) or (None,))[0]
