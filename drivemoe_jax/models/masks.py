"""Who may look at whom, and where each token stands.

Streams lie along the sequence in the order vlm, proprio, action:

    query | key   vlm (no padding)  proprio  action
    vlm                 x
    proprio             x              x
    action              x              x        x

All blocks are bidirectional. A padded vlm query sees nothing: its value is
garbage (a uniform mean in the release, zero where logits are capped), but
finite and never looked at.
"""

import jax.numpy as jnp

STREAMS = ("vlm", "proprio", "action")


def allowed(valid, history, horizon):
  """Block mask over all streams.

  Args:
    valid: [B,T] bool, False where the vlm stream is padding.
    history: number of proprio tokens.
    horizon: number of action tokens.

  Returns:
    [B,S,S] bool, S = T + history + horizon; rows are queries.
  """
  lengths = (valid.shape[1], history, horizon)
  block = jnp.repeat(jnp.arange(3), jnp.array(lengths),
                     total_repeat_length=sum(lengths))   # [S]
  visible = block[:, None] >= block[None, :]             # [S,S]
  real = jnp.pad(valid, ((0, 0), (0, history + horizon)),
                 constant_values=True)                   # [B,S]
  return visible[None] & real[:, None, :] & real[:, :, None]


def positions(tokens, history, horizon):
  """RoPE positions by stream: each restarts at 1, action follows proprio."""
  return {"vlm": 1 + jnp.arange(tokens),
          "proprio": 1 + jnp.arange(history),
          "action": 1 + history + jnp.arange(horizon)}
