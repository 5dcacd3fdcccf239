"""The joint transformer: named streams, own weights, one shared attention.

The layers lie in three stacks that are stored apart, so that no weight is ever
sliced inside a compiled program: `dense` (0..L-M-1), `moe` and `last`. Without
experts there are `dense` (0..L-2) and `last`. Parameters belong to the streams
(`llm/layers/...`, `expert/...`); this module only brings them together.

Axes: B samples, T tokens of the running streams, S keys, D width, K kv heads,
H head size, C condition width, R routed groups, E experts.
"""

import flax.linen as nn
import jax.numpy as jnp

from drivemoe_jax.models import attention, masks, precision, routers


def groups(layers, moe_layers):
  """Layers per stack, in order: {"dense": 14, "moe": 3, "last": 1}."""
  if not 0 <= moe_layers < layers:
    raise ValueError(f"moe_layers {moe_layers} must lie in 0..{layers - 1}: "
                     "the last dense layer feeds the skill router")
  dense = layers - moe_layers if moe_layers else layers - 1
  sizes = {"dense": dense, "moe": max(moe_layers - 1, 0), "last": 1}
  return {name: size for name, size in sizes.items() if size}


class JointLayer(nn.Module):
  """All running streams through one layer; scanned over a stack.

  The carry is (streams, router_input): x by stream [B,T,D] and the action
  stream as the feed-forward part of the latest layer saw it.
  """

  vlm: nn.Module
  proprio: nn.Module
  action: nn.Module
  softcap: float
  keep_cache: bool
  last: bool
  active: int  # as in experts.ExpertBank

  def __call__(self, carry, cache, allowed, positions, condition, weights):
    streams, router_input = carry
    layer = {"vlm": self.vlm, "proprio": self.proprio, "action": self.action}
    condition = {"vlm": None, "proprio": condition, "action": condition}
    # A pytree sorts its keys; along the sequence the streams keep their order.
    running = [s for s in masks.STREAMS if s in streams]
    parts = [layer[s].project(streams[s], positions[s], condition[s])
             for s in running]
    # Nobody looks at the last vlm stream any more; its weights are carried.
    ended = ("vlm" in streams and self.last and not self.is_initializing())
    if ended and len(running) > 1:
      parts[0] = (parts[0][0][:, :0], *parts[0][1:])
      allowed = allowed[:, streams["vlm"].shape[1]:]
    q, k, v = (jnp.concatenate(part, axis=1) for part in zip(*parts))
    own = (k, v)
    if cache is not None:
      k, v = (jnp.concatenate(pair, axis=1) for pair in zip(cache, own))
    attended = attention.attend(q, k, v, allowed, self.softcap)  # [B,T,N,H]
    start, done = 0, {}
    for s in running:
      x = streams[s]
      if s == "vlm" and ended:
        done[s] = x
        continue
      end = start + x.shape[1]
      mine, start = attended[:, start:end], end
      done[s], n = layer[s].absorb(
          x, mine, condition[s], weights if s == "action" else None,
          self.active)
      self.sow("intermediates", s, done[s])
      if s == "action":
        router_input = n
    return (done, router_input), (own if self.keep_cache else None)


class JointTransformer(nn.Module):
  """Runs any of the streams against each other and an optional cache.

  Attributes:
    vlm, proprio, action: Stacks (proprio and action share the dense ones).
    skill_router: its module, None without experts.
  """

  layers: int
  moe_layers: int
  vlm: nn.Module
  proprio: dict
  action: dict
  skill_router: nn.Module | None
  top_k: int
  shared_experts: int
  softcap: float
  remat: str
  unroll: bool = False

  @nn.compact
  def __call__(self, streams, allowed, positions, condition=None, *,
               cache=None, keep_cache=False, skill=None):
    """One pass.

    Args:
      streams: {"vlm" | "proprio" | "action": [B,T,D]}, those that run,
        already in trunk scale.
      allowed: [B,T,S] bool. positions: [T] by stream.
      condition: [B,C] for adaptive experts.
      cache: keys and values of the streams that do not run, by stack.
      keep_cache: return the keys and values of those that do.
      skill: [B] labels that replace the router's choice of experts.

    Returns:
      streams before their final norms, out, cache by stack or None.
    """
    out = {"skill_logits": None, "skill_weights": None}
    kept, router_input = {}, None
    if "action" in streams:
      router_input = jnp.zeros_like(streams["action"])
    for name, size in groups(self.layers, self.moe_layers).items():
      last_dense = self.moe_layers and name != "dense"
      if last_dense and "action" in streams and out["skill_logits"] is None:
        self.sow("intermediates", "router_input", router_input)
        out = self._route(router_input, skill)
      layer = precision.scan_layers(
          JointLayer, size, self.remat, (0,) + (nn.broadcast,) * 4,
          self.unroll)
      (streams, router_input), kept[name] = layer(
          getattr(self.vlm, name), self.proprio[name], self.action[name],
          self.softcap, keep_cache, name == "last",  # pyright: ignore[reportCallIssue]
          # A plan is made from a cache: its experts need no gradient.
          0 if cache is None else self.top_k + self.shared_experts, name=name)(
              (streams, router_input), None if cache is None else cache[name],  # pyright: ignore[reportCallIssue]
              allowed, positions, condition, out["skill_weights"])
    return streams, out, kept if keep_cache else None

  def _route(self, x, skill):
    logits = self.skill_router(x)                        # [B,R,E]
    weights = routers.expert_weights(
        logits, top_k=self.top_k, moe_layers=self.moe_layers,
        shared=self.shared_experts, label=skill)
    return {"skill_logits": logits, "skill_weights": weights}
