"""The experts of one layer: skill and shared experts in one stack.

The shared expert is one more slot with weight 1, so that a mesh axis of 2, 4
or 8 divides the released 7 + 1. Every expert is computed on every token and
weighted: exact, dropless, and 0.3 % of the model's work, because an action
stream has ten tokens beside a prefix of 788.

Axes: B samples, T tokens, R routed groups (1 = whole trajectory, or T),
E experts, D width, F hidden width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from drivemoe_jax.models import precision


class ExpertBank(nn.Module):
  """Weighted sum of gated MLPs. An expert of weight 0 gets no gradient."""

  experts: int
  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, weights):                        # [B,T,D], [B,R,E]
    e, d, f = self.experts, x.shape[-1], self.hidden
    init = nn.initializers.lecun_normal
    gating = self.param("gating_einsum", init(in_axis=2, out_axis=3,
                                              batch_axis=(0, 1)), (e, 2, d, f))
    linear = self.param("linear", init(in_axis=1, out_axis=2,
                                       batch_axis=(0,)), (e, f, d))
    # Under expert parallelism each device holds some experts and sees all
    # tokens of its expert group; the last sum crosses the group.
    x = nn.with_logical_constraint(x, ("expert_batch", None, None))
    gate, up = precision.einsum("btd,egdf->gebtf", x, gating, dtype=self.dtype)
    h = jax.nn.gelu(gate, approximate=True) * up         # [E,B,T,F]
    h = nn.with_logical_constraint(h, ("expert", "expert_batch", None, None))
    h = h * weights.transpose(2, 0, 1)[..., None].astype(self.dtype)
    y = precision.einsum("ebtf,efd->btd", h, linear, dtype=self.dtype)
    return nn.with_logical_constraint(y, ("batch", None, None))
