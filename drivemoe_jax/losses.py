"""Training losses, every term by name, raw and weighted.

Axes: B samples, H waypoints, V views, R routed groups, E experts.
"""

import jax
import jax.numpy as jnp

SKILL_LOSSES = ("mean", "per_token")


def focal(logits, label, alpha, gamma=2.0):
  """Mean over all but the class axis of alpha_y (1 - p_y)^gamma (-log p_y).

  Args:
    logits: [...,C]. label: [...] int in [0, C). alpha: at least C class
      weights, looked up by label and never renormalised.
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  ce = -jnp.take_along_axis(log_p, label[..., None], axis=-1)[..., 0]
  hard = (1.0 - jnp.exp(-ce)) ** gamma
  return jnp.mean(jnp.asarray(alpha)[label] * hard * ce)


def velocity_error(velocity, target):                    # [B,H,2] -> []
  """Mean squared error over samples, waypoints and coordinates."""
  return jnp.mean((velocity - target) ** 2)


def total(velocity, target, out, camera, skill, *, weights, alphas, gamma=2.0,
          skill_loss="mean"):
  """Weighted sum of the terms that the model and the labels provide.

  Args:
    velocity, target: [B,H,2].
    out: the model's `camera_logits` [B,V], `skill_logits` [B,R,E] and
      `skill_weights` [B,R,E+shared], or None where it has no such router.
    camera, skill: [B] int labels, or None: the term is skipped.
    weights: {"action", "camera", "skill"}; a model without any router is
      trained on the plain action loss (as released).
    alphas: {"camera", "skill"} focal class weights.
    skill_loss: "mean" scores the token mean of the logits (the release's
      trajectory router), "per_token" each token.

  Returns:
    loss [] and metrics: raw and `_weighted` terms, router accuracies, and
      what `routing` and `sureness` say. `camera_labels` [V] and
      `skill_labels` [E] are the shares of the labels.
  """
  action = velocity_error(velocity, target)
  metrics = {"loss_action": action}
  loss = action
  camera_logits, skill_logits = out["camera_logits"], out["skill_logits"]
  if camera_logits is not None or skill_logits is not None:
    loss = weights["action"] * action
  if camera_logits is not None and camera is not None:
    raw = focal(camera_logits, camera, alphas["camera"], gamma)
    loss = loss + _note(metrics, "camera", raw, weights["camera"])
    metrics["camera_accuracy"] = _accuracy(camera_logits, camera)
    metrics["camera_labels"] = _shares(camera, camera_logits.shape[-1])
  if skill_logits is not None and skill is not None:
    mean = skill_logits.mean(1)                          # [B,E]
    if skill_loss == "per_token":
      label = jnp.broadcast_to(skill[:, None], skill_logits.shape[:2])
      raw = focal(skill_logits, label, alphas["skill"], gamma)
    elif skill_loss == "mean":
      raw = focal(mean, skill, alphas["skill"], gamma)
    else:
      raise ValueError(f"skill_loss {skill_loss!r}; known: "
                       f"{', '.join(SKILL_LOSSES)}")
    loss = loss + _note(metrics, "skill", raw, weights["skill"])
    metrics["skill_accuracy"] = _accuracy(mean, skill)
    metrics["skill_labels"] = _shares(skill, mean.shape[-1])
  if camera_logits is not None:
    metrics["camera_share"], metrics["camera_entropy"] = sureness(camera_logits)
  if skill_logits is not None:
    metrics |= routing(skill_logits, out["skill_weights"])
  return loss, {"loss": loss, **metrics}


def routing(logits, weights):
  """What the skill experts are asked to do; nothing here is trained on.

  Args:
    logits: [B,R,E] of the router. weights: [B,R,E+shared] that were used.

  Returns:
    expert_load [E], each expert's share of the picks; expert_weight [E], its
    share of the weight; skill_share [E] and routing_entropy [], see sureness.
  """
  logits, weights = jax.lax.stop_gradient((logits, weights))
  weights = weights[..., :logits.shape[-1]]
  share = lambda x: x.sum((0, 1)) / x.sum()
  mean, entropy = sureness(logits)
  return {"expert_load": share((weights > 0).astype(jnp.float32)),
          "expert_weight": share(weights), "skill_share": mean,
          "routing_entropy": entropy}


def sureness(logits):                                  # [...,C] -> [C], []
  """Mean probability of each class, and mean entropy in nats.

  The entropy goes from 0 (sure) to log C; a router may well be sure. One whose
  mean probability lies on a single class has collapsed.
  """
  logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
  log_p = jax.nn.log_softmax(logits, axis=-1)
  p = jnp.exp(log_p)
  return (p.reshape(-1, p.shape[-1]).mean(0), -(p * log_p).sum(-1).mean())


def outside(action, bound):                            # [B,H,2] -> []
  """Share of the coordinates beyond +-bound."""
  return (jnp.abs(action) > bound).mean()


def _note(metrics, name, raw, weight):
  metrics[f"loss_{name}"] = raw
  metrics[f"loss_{name}_weighted"] = weight * raw
  return weight * raw


def _shares(label, classes):
  return jax.nn.one_hot(label, classes).mean(0)


def _accuracy(logits, label):
  return jnp.mean(logits.argmax(-1) == label)
