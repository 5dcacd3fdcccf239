"""Sampling a plan: the prefix once, then Euler steps of the plan alone.

Axes: B samples, H waypoints, R routed groups, E experts.
"""

import jax.numpy as jnp

from drivemoe_jax import flow


def cacheable(model):
  """Streams whose keys and values do not depend on the time of the flow."""
  return ("vlm",) if model.adaptive else ("vlm", "proprio")


def sample(model, params, *, images, text, proprio, goal, noise, steps=10,
           clip=1.0, skill=None, cached=None):
  """Integrates a plan from noise.

  Args:
    params: the model's parameters; the rest as in DriveMoE.__call__.
    noise: [B,H,2]. steps: Euler steps. clip: bound on the result.
    skill: [B] labels in place of the skill router, or None.
    cached: streams computed once for all steps; None takes `cacheable`.
      Adaptive experts with ("vlm", "proprio") freeze the proprio stream at
      time 0, as the release's Drive-pi0 does; () recomputes everything.

  Returns:
    action [B,H,2] normalised, and out: camera_logits, view, skill_logits of
    the last step, `points` [steps+1,B,H,2] before clipping, `velocities`,
    `skill_logits_steps` [steps,B,R,E].
  """
  apply = lambda *args, **kw: model.apply({"params": params}, *args, **kw)
  cached = cacheable(model) if cached is None else cached
  vlm, valid, out = apply(images, text, goal, method="look")
  cache = (apply(vlm, valid, proprio, cached, method="prefill")
           if cached else None)

  def velocity(x, t):
    v, routed, _ = apply(vlm, valid, proprio, x, t, skill=skill, cached=cached,
                         cache=cache, method="velocity")
    return v, routed

  points, velocities, routed = flow.integrate(velocity, noise, steps)
  logits = routed["skill_logits"]
  out = out | {"points": points, "velocities": velocities,
               "skill_logits": None if logits is None else logits[-1],
               "skill_logits_steps": logits}
  return jnp.clip(points[-1], -clip, clip), out
