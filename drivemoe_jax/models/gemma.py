"""Gemma layers for one stream of the joint transformer (big_vision's names).

A layer is used in two halves, because between them all streams attend
together: `project` gives queries, keys and values, `absorb` takes the attended
values back and runs the feed-forward part.

Axes: B samples, T tokens, D width, N heads, K kv heads, H head size,
F hidden width, C condition width, R routed groups (1 or T),
E experts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from drivemoe_jax.models import experts, gated_mlp, precision


def rope(x, positions, base):
  """Rotates halves of the head: [B,T,N,H], [T] -> [B,T,N,H], in float32."""
  half = x.shape[-1] // 2
  frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions[:, None, None].astype(jnp.float32) * frequency  # [T,1,H/2]
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
  return turned.astype(x.dtype)


def gated(x, logits):                                    # [B,T,D], [B,D]
  """Scales a residual branch by a gate that is the same for all tokens."""
  return x * jax.nn.sigmoid(logits)[:, None].astype(x.dtype)


class Einsum(nn.Module):
  """A bare weight `w` and its product."""

  shape: tuple[int, ...]
  in_axis: tuple[int, ...]
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, equation, x):
    rest = [i for i in range(len(self.shape)) if i not in self.in_axis]
    init = nn.initializers.lecun_normal(in_axis=self.in_axis, out_axis=rest)
    w = self.param("w", init, self.shape)
    whole = self.in_axis == (len(self.shape) - 2,)
    product = precision.stacked if whole else precision.einsum
    return product(equation, x, precision.gathered(w, self.dtype),
                   dtype=self.dtype)


class Norm(nn.Module):
  """RMS norm times (1 + scale); adaptive: times sigmoid(gamma c) + beta c."""

  eps: float
  dtype: jnp.dtype
  adaptive: bool = False

  @nn.compact
  def __call__(self, x, condition=None):                 # [B,T,D], [B,C]
    x = x.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + self.eps)
    if not self.adaptive:
      scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
      return (x * (1.0 + scale)).astype(self.dtype)
    linear = lambda name, bias: precision.dense(
        x.shape[-1], jnp.float32, use_bias=bias, name=name)(condition)[:, None]
    x = x * jax.nn.sigmoid(linear("gamma", True)) + linear("beta", False)
    return x.astype(self.dtype)


class Attention(nn.Module):
  """The projections around the joint attention."""

  width: int
  heads: int
  kv_heads: int
  head_dim: int
  dtype: jnp.dtype

  def setup(self):
    d, n, k, h = self.width, self.heads, self.kv_heads, self.head_dim
    self.q_einsum = Einsum((n, d, h), (1,), self.dtype)
    self.kv_einsum = Einsum((2, k, d, h), (2,), self.dtype)
    self.attn_vec_einsum = Einsum((n, h, d), (0, 1), self.dtype)

  def project(self, x):                                  # [B,T,D]
    k, v = self.kv_einsum("btd,ckdh->cbtkh", x)
    return self.q_einsum("btd,ndh->btnh", x), k, v

  def merge(self, x):                                    # [B,T,N,H] -> [B,T,D]
    return self.attn_vec_einsum("btnh,nhd->btd", x)


class StreamLayer(nn.Module):
  """One layer of one stream.

  Attributes:
    adaptive: None, "adaLN" (norms follow the condition) or "adaLN-Zero"
      (residual branches are gated as well).
    expert_count: skill and shared experts in place of the MLP; 0 is dense.
    expert_exchange: as in experts.ExpertBank.
  """

  width: int
  hidden: int
  heads: int
  kv_heads: int
  head_dim: int
  norm_eps: float
  rope_theta: float
  dtype: jnp.dtype
  adaptive: str | None = None
  expert_count: int = 0
  expert_exchange: str = "constraint"

  def setup(self):
    norm = lambda: Norm(self.norm_eps, self.dtype, self.adaptive is not None)
    self.pre_attention_norm, self.pre_ffw_norm = norm(), norm()
    self.attn = Attention(self.width, self.heads, self.kv_heads, self.head_dim,
                          self.dtype)
    if self.expert_count:
      self.moe = experts.ExpertBank(self.expert_count, self.hidden,
                                    self.dtype, self.expert_exchange)
    else:
      self.mlp = gated_mlp.GatedMlp(self.hidden, self.dtype)
    if self.adaptive == "adaLN-Zero":
      gate = lambda: precision.dense(  # 0.119 at initialisation
          self.width, jnp.float32, kernel_init=nn.initializers.zeros,
          bias_init=nn.initializers.constant(-2.0))
      self.attn_scale, self.mlp_scale = gate(), gate()

  def project(self, x, positions, condition):
    """Queries, keys, values with RoPE: [B,T,D] -> [B,T,N,H], 2x [B,T,K,H]."""
    q, k, v = self.attn.project(self.pre_attention_norm(x, condition))
    turn = lambda y: rope(y, positions, self.rope_theta)
    return turn(q), turn(k), v

  def absorb(self, x, attended, condition, weights=None, active=0):
    """Both residual branches.

    Args:
      x: [B,T,D]. attended: [B,T,N,H]. condition: [B,C] or None.
      weights: [B,R,E] share of each expert; needed by layers with experts.
      active: as in experts.ExpertBank.

    Returns:
      x [B,T,D] and the normalised feed-forward input [B,T,D], which is what
      the skill router reads.
    """
    y = self.attn.merge(attended)
    if self.adaptive == "adaLN-Zero":
      y = gated(y, self.attn_scale(condition))
    x = x + y
    n = self.pre_ffw_norm(x, condition)
    y = self.moe(n, weights, active) if self.expert_count else self.mlp(n)
    if self.adaptive == "adaLN-Zero":
      y = gated(y, self.mlp_scale(condition))
    x = x + y
    return nn.with_logical_constraint(x, ("batch", None, None)), n


class Embedder(nn.Module):
  """The frozen token table."""

  vocab_size: int
  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, ids):                               # [B,T] -> [B,T,D]
    """Rows scaled by sqrt(width); padding (id 0) is exactly zero."""
    table = self.param("input_embedding", nn.initializers.normal(1.0),
                       (self.vocab_size, self.width))
    # Frozen in every stage: without a gradient there is no scatter to compute.
    rows = jax.lax.stop_gradient(table)[ids] * self.width ** 0.5
    return jnp.where((ids != 0)[..., None], rows, 0.0).astype(self.dtype)
