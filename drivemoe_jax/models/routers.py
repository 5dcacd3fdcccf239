"""The two routers: which camera to look through, which experts to drive with.

Everything here is float32. A router describes a choice (logits, one-hot,
weights); the model and the experts act on it.

Axes: B samples, N front patches, D width, V candidate views, T action tokens,
R routed groups (1 = whole trajectory, or T), E skill experts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from drivemoe_jax.models import precision

FLOAT = jnp.float32


class CameraRouter(nn.Module):
  """Scores the candidate views from the front image and the goal point.

  A learned query attends to the goal and the front patches. `dropout` is a
  key for each sample, so that a mask does not hang on how a batch is cut; None
  drops nothing.
  """

  num_views: int
  heads: int
  hidden: int
  dropout: float

  @nn.compact
  def __call__(self, front, goal, dropout=None):         # [B,N,D], [B,2]
    d = front.shape[-1]
    dense = lambda size, name: precision.dense(size, FLOAT, name=name)
    goal = nn.relu(dense(self.hidden, "waypoint_in")(goal.astype(FLOAT)))
    goal = dense(d, "waypoint_out")(goal)                # [B,D]
    keys = jnp.concatenate([goal[:, None], front.astype(FLOAT)], 1)  # [B,1+N,D]
    query = self.param("query", nn.initializers.normal(0.02), (1, 1, d))
    query = jnp.broadcast_to(query, (front.shape[0], 1, d))
    x = nn.MultiHeadDotProductAttention(
        self.heads, dtype=FLOAT, deterministic=True, name="attn",
        precision=precision.matmul_precision(FLOAT))(query, keys)[:, 0]
    # The release leaves torch's default epsilon here, whatever its config says.
    x = precision.layer_norm(1e-5, FLOAT, name="norm")(x)
    x = nn.relu(dense(d // 2, "mlp_in")(x))
    if dropout is not None:
      keep = jax.vmap(lambda key: jax.random.bernoulli(
          key, 1.0 - self.dropout, x.shape[1:]))(dropout)
      x = jnp.where(keep, x / (1.0 - self.dropout), 0.0)
    return dense(self.num_views, "mlp_out")(x)


class SkillRouter(nn.Module):
  """Scores the skill experts from the normalised action stream.

  `routing`: "trajectory" averages the token logits, so that one choice serves
  the whole plan (the release); "token" keeps one choice per waypoint. The
  parameters are the same.
  """

  experts: int
  routing: str

  @nn.compact
  def __call__(self, x):                                 # [B,T,D] -> [B,R,E]
    kernel = self.param("kernel", nn.initializers.lecun_normal(),
                        (x.shape[-1], self.experts))
    temperature = self.param("temperature", nn.initializers.ones, (1,))
    logits = precision.einsum("btd,de->bte", x, kernel, dtype=FLOAT)
    if self.routing == "trajectory":
      logits = logits.mean(1, keepdims=True)
    return logits / jnp.abs(temperature)


def choose_view(logits, *, label=None, gumbel=None):     # [B,V] -> [B,V]
  """A label forces the view, noise samples it, neither takes the likeliest.

  Args:
    logits: [B,V]. label: [B] int. gumbel: [B,V] standard Gumbel noise; the
      sample is one-hot with the gradient of the soft choice.
  """
  views = logits.shape[-1]
  if label is not None:
    return jax.nn.one_hot(label, views)
  if gumbel is not None:
    soft = jax.nn.softmax(logits + gumbel, axis=-1)
    hard = jax.nn.one_hot(soft.argmax(-1), views)
    return hard + (soft - jax.lax.stop_gradient(soft))
  return jax.nn.one_hot(logits.argmax(-1), views)


def top_k_weights(logits, k):                            # [B,R,E] -> [B,R,E]
  """Keeps the k likeliest experts and renormalises; the rest is exactly 0.

  Experts are counted, not sorted: a sort is not split over devices, so all of
  them would gather the logits of all. Of equal ones the first wins.
  """
  probs = jax.nn.softmax(logits.astype(FLOAT), axis=-1)
  one, other = probs[..., None], probs[..., None, :]     # [B,R,E,E]
  index = jnp.arange(probs.shape[-1])
  ahead = (other > one) | ((other == one) & (index < index[:, None]))
  kept = jnp.where(ahead.sum(-1) < k, probs, 0.0)
  return kept / kept.sum(-1, keepdims=True)


@jax.custom_jvp
def _identity(x, scale):
  del scale
  return x


@_identity.defjvp
def _identity_jvp(primals, tangents):
  (x, scale), (dx, _) = primals, tangents
  return x, dx * scale


def scale_gradient(x, scale):
  """x forwards, `scale` times the gradient backwards."""
  return _identity(x, scale)


def expert_weights(logits, *, top_k, moe_layers, shared, label=None):
  """Shares of all experts: skill experts first, then the shared ones with 1.

  Args:
    logits: [B,R,E] of the skill router.
    top_k: experts kept. moe_layers: layers that reuse these weights; each
      sends 1/moe_layers of the gradient, so that the router learns from their
      mean (as released).
    shared: number of shared experts.
    label: [B] int; the labelled expert alone instead of the router's choice.

  Returns:
    [B,R,E+shared] float32.
  """
  if label is not None:
    skill = jax.nn.one_hot(label, logits.shape[-1])[:, None]
    skill = jnp.broadcast_to(skill, logits.shape)
  else:
    skill = top_k_weights(logits, top_k)
    skill = scale_gradient(skill, 1.0 / moe_layers)
  # The shared experts are the last slots of the stack, always on.
  ones = jnp.ones((*skill.shape[:-1], shared))
  return jnp.concatenate([skill, ones], axis=-1)
