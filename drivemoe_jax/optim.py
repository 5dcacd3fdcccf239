"""Optimiser: official schedule, two groups, frozen parts, one joint clip.

AdamW as torch computes it (bias corrected, epsilon outside the root, no weight
decay), so that published learning rates keep their meaning. A table of path
patterns puts every parameter into a group; frozen ones get no optimiser state.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Ordered, first full match wins; a parameter without a match is an error.
GROUPS = (
    (r"llm/embedder/.*", "frozen"),
    # The last VLM layer ends with its attention: these never reach the loss.
    (r"llm/layers/last/(attn/attn_vec_einsum|mlp|pre_ffw_norm)/.*", "frozen"),
    (r"(img|llm|router/camera)/.*|view_embedding", "vlm"),
    (r"(expert|router/skill|io)/.*", "action"),
)
# The release keeps the value projection of the last VLM layer as pretrained
# though the other streams read it. Keys and values share this leaf (axis 1).
LAST_VALUE = "llm/layers/last/attn/kv_einsum/w"
EXPERTS = r"expert/action/layers/\w+/moe/.*"  # leaves [layers,experts,...]


def learning_rate(update, *, max_lr, min_lr, warmup_updates, cycle_updates):
  """Linear warm-up and cosine, as released: updates 0 and 1 both get min_lr.

  Args:
    update: index from 0; an int (answered in double precision) or a traced
      integer array (float32).
    max_lr, min_lr: ends of the cosine.
    warmup_updates, cycle_updates: length of the rise and of the whole cycle,
      after which both start again.
  """
  xp = jnp if isinstance(update, jax.Array) else np
  # The release steps its schedule after the update: one update late.
  j = xp.maximum(update - 1, 0) % cycle_updates
  rise = j / max(warmup_updates, 1)
  angle = math.pi * (j - warmup_updates) / (cycle_updates - warmup_updates)
  share = xp.where(j < warmup_updates, rise, (1.0 + xp.cos(angle)) / 2.0)
  return min_lr + (max_lr - min_lr) * share


def groups(params, table=GROUPS):
  """Group name of every parameter: a tree like `params`.

  Raises:
    ValueError: a parameter that no pattern matches.
  """
  return jax.tree_util.tree_map_with_path(
      lambda path, _: _group(_name(path), table), params)


def trainable_mask(params, freeze_last_value=True):
  """What is trained: per leaf a bool array that broadcasts against the leaf."""

  def mask(path, leaf, group):
    if group == "frozen":
      return np.zeros((1,) * len(leaf.shape), bool)
    kept = np.ones((1,) * len(leaf.shape), bool)
    if freeze_last_value and _name(path) == LAST_VALUE:
      kept = np.array([True, False]).reshape(1, 2, *kept.shape[2:])
    return kept

  return jax.tree_util.tree_map_with_path(mask, params, groups(params))


def num_trainable(params, freeze_last_value=True):
  """Number of trained parameters, in arrays or their shapes."""
  mask = trainable_mask(params, freeze_last_value)
  return sum(jax.tree.leaves(jax.tree.map(
      lambda p, m: math.prod(p.shape) * int(m.sum()) // m.size, params, mask)))


def group_sizes(params, freeze_last_value=True):
  """{"action" | "vlm": number of trained parameters}."""
  mask = trainable_mask(params, freeze_last_value)
  count = {"action": 0, "vlm": 0, "frozen": 0}
  for p, m, group in zip(*map(jax.tree.leaves, (params, mask, groups(params)))):
    count[group] += math.prod(p.shape) * int(m.sum()) // m.size
  return {name: n for name, n in count.items() if name != "frozen"}


def optimiser_bytes(tx, params):
  """Bytes of optimiser state for `params` (arrays or shapes)."""
  return sum(math.prod(x.shape) * x.dtype.itemsize
             for x in jax.tree.leaves(jax.eval_shape(tx.init, params)))


def trained_gradients(grads, freeze_last_value=True):
  """Gradients with exact zeros where nothing is trained."""
  mask = trainable_mask(grads, freeze_last_value)
  keep = lambda g, m: g if m.all() else jnp.where(m, g, jnp.zeros_like(g))
  return jax.tree.map(keep, grads, mask)


def make(params, *, action_lr, vlm_lr, clip_norm=1.0, kind="adamw", b1=0.9,
         b2=0.999, eps=1e-8, first_moment_dtype="float32",
         freeze_last_value=True, skip_unused_experts=False):
  """The transformation from raw gradients to updates, over the whole tree.

  Args:
    params: arrays or shapes; only names and shapes are read.
    action_lr, vlm_lr: rate per group, a number or update index -> rate.
    clip_norm: bound of the joint norm of both groups.
    kind: "adamw", or "adafactor" (factored second moment, bfloat16 momentum)
      where memory is short.
    first_moment_dtype: storage of AdamW's first moment.
    freeze_last_value: keep the last VLM layer's value projection.
    skip_unused_experts: as torch, which has no gradient for a skill expert
      that no sample chose: its weights, moments and step count stay. Off, such
      an expert still moves by its momentum.

  Raises:
    ValueError: unknown kind, or an option that this kind does not have.
  """
  names = groups(params)
  rule = _rule(kind, b1, b2, eps, first_moment_dtype)
  rates = {"action": action_lr, "vlm": vlm_lr}
  parts = {name: optax.chain(rule, optax.scale_by_learning_rate(rate))
           for name, rate in rates.items()}
  parts["frozen"] = optax.set_to_zero()
  if skip_unused_experts:
    if kind != "adamw":
      raise ValueError(f"skip_unused_experts needs kind adamw, not {kind!r}")
    skill = params["router"]["skill"]["kernel"].shape[-1]
    parts["experts"] = optax.chain(_per_expert(rule, skill),
                                   optax.scale_by_learning_rate(action_lr))
    names = jax.tree_util.tree_map_with_path(
        lambda path, name: "experts" if re.fullmatch(EXPERTS, _name(path))
        else name, names)
  return optax.chain(
      optax.stateless(
          lambda grads, _: trained_gradients(grads, freeze_last_value)),
      optax.stateless(lambda grads, _: _clip(grads, clip_norm)),
      optax.multi_transform(parts, names))


def _name(path):
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _group(name, table):
  for pattern, group in table:
    if re.fullmatch(pattern, name):
      return group
  raise ValueError(f"no optimiser group matches parameter {name!r}; add one to "
                   "optim.GROUPS")


def _clip(grads, bound):
  """Torch's clip, which divides by norm + 1e-6 and never enlarges."""
  scale = jnp.minimum(1.0, bound / (optax.tree.norm(grads) + 1e-6))
  return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)


def _rule(kind, b1, b2, eps, first_moment_dtype):
  if kind == "adamw":
    return optax.scale_by_adam(b1, b2, eps, mu_dtype=first_moment_dtype)
  if kind == "adafactor":
    # Settings of big_vision's large runs: no relative step, capped decay.
    decay = lambda i, power: jnp.minimum(
        0.999, 1.0 - (jnp.asarray(i, jnp.float32) + 1.0) ** -power)
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=32,
                                    decay_rate_fn=decay),
        optax.ema(0.9, debias=False, accumulator_dtype=jnp.bfloat16))
  raise ValueError(f"unknown optimiser {kind!r}; known: adamw, adafactor")


def _per_expert(rule, skill):
  """One copy of `rule` per (layer, expert); idle skill experts stand still.

  Args:
    rule: transformation of a single array. skill: number of skill experts;
      the shared ones behind them in the stack are always updated.
  """
  each = lambda f: jax.vmap(jax.vmap(f))                 # [layers,experts,...]

  def init(params):
    return jax.tree.map(each(rule.init), params)

  def update_leaf(grad, state):
    layers, experts = grad.shape[:2]
    always = jnp.broadcast_to(jnp.arange(experts) >= skill, (layers, experts))

    def one(grad, state, always):
      update, new = rule.update(grad, state)
      used = always | jnp.any(grad != 0)
      keep = lambda new, old: jnp.where(used, new, old)
      return keep(update, jnp.zeros_like(update)), jax.tree.map(keep, new,
                                                               state)

    return each(one)(grad, state, always)

  def update(grads, state, params=None):
    del params
    pairs = jax.tree.map(update_leaf, grads, state)
    pick = lambda i: jax.tree.map(lambda _, pair: pair[i], grads, pairs)
    return pick(0), pick(1)

  return optax.GradientTransformation(init, update)
