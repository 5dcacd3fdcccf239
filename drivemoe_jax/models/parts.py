"""Where the parameters live: `llm/`, `expert/`, `router/` and `io/`.

Modules that hold parameters under the names of the checkpoint; `drivemoe.py`
says what happens with them, `joint.py` how the layers meet.

Axes: B samples, H waypoints, A expert width.
"""

import flax.linen as nn
import jax.numpy as jnp

from drivemoe_jax.models import gemma, precision, routers


class Stacks(nn.Module):
  """One stream's layers by stack; `arguments` go to every StreamLayer."""

  names: tuple[str, ...]
  arguments: dict
  experts_in: tuple[str, ...] = ()
  expert_count: int = 0

  def setup(self):
    for name in self.names:
      count = self.expert_count if name in self.experts_in else 0
      setattr(self, name, gemma.StreamLayer(**self.arguments,
                                            expert_count=count))


def time_embedding(time, width):                         # [B] -> [B,width]
  """Sines, then cosines, of the unscaled time at geometric frequencies."""
  half = width // 2
  exponent = -jnp.log(10000.0) / (half - 1)
  angle = time[:, None] * jnp.exp(jnp.arange(half) * exponent)
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class ActionEncoder(nn.Module):
  """Noisy waypoints to tokens; without adaptive norms the time joins here."""

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, action, time=None):                 # [B,H,2], [B,A]
    dense = lambda i: precision.dense(self.width, self.dtype,
                                      name=f"linear_{i}")
    x = dense(1)(action)
    if time is not None:
      time = jnp.broadcast_to(time[:, None].astype(x.dtype), x.shape)
      x = jnp.concatenate([time, x], axis=-1)
    return dense(3)(nn.silu(dense(2)(x)))                # [B,H,A]


class Io(nn.Module):
  """Ego history and plans in, velocity out."""

  width: int
  action_dim: int
  dtype: jnp.dtype

  def setup(self):
    self.action_in = ActionEncoder(self.width, self.dtype)
    self.proprio_in = precision.dense(self.width, self.dtype)
    # The velocity is integrated: its last product stays in float32.
    self.action_out = precision.dense(self.action_dim, jnp.float32)


class Gemma(nn.Module):
  """The language model's parameters: token table and layers."""

  vocab_size: int
  names: tuple[str, ...]
  arguments: dict

  def setup(self):
    a = self.arguments
    self.embedder = gemma.Embedder(self.vocab_size, a["width"], a["dtype"])
    self.layers = Stacks(self.names, a)


class Stream(nn.Module):
  """One expert stream's parameters: some stacks and maybe the final norm."""

  names: tuple[str, ...]
  arguments: dict
  expert_count: int = 0
  ends: bool = True

  def setup(self):
    a = self.arguments
    self.layers = Stacks(self.names, a, ("moe", "last"),
                               self.expert_count)
    if self.ends:
      self.final_norm = gemma.Norm(a["norm_eps"], a["dtype"],
                                   a["adaptive"] is not None)


class Expert(nn.Module):
  """Proprio and action streams: `shared` serves both, the rest one each."""

  moe_layers: int
  names: tuple[str, ...]
  arguments: dict
  expert_count: int

  def setup(self):
    if not self.moe_layers:
      self.shared = Stream(self.names, self.arguments)
      return
    late = tuple(name for name in self.names if name != "dense")
    self.shared = Stream(("dense",), self.arguments, ends=False)
    self.proprio = Stream(late, self.arguments)
    self.action = Stream(late, self.arguments, self.expert_count)

  def stream(self, which):
    """Layers by stack and the final norm of "proprio" or "action"."""
    own = getattr(self, which) if self.moe_layers else self.shared
    layers = {name: getattr(own.layers, name) for name in own.names}
    return layers | {"dense": self.shared.layers.dense}, own.final_norm


class Routers(nn.Module):
  """Holds the routers that a model has."""

  camera_arguments: dict | None
  skill_arguments: dict | None

  def setup(self):
    if self.camera_arguments:
      self.camera = routers.CameraRouter(**self.camera_arguments)
    if self.skill_arguments:
      self.skill = routers.SkillRouter(**self.skill_arguments)
