"""The policy inside the agent's own process: Python 3.11 and carla 0.9.16.

The evaluator makes a new agent for every route; the compiled policy stays.
"""

import functools

from drivemoe_jax import build, policy


class LocalPolicy:
  """A policy.Policy that is asked like a server."""

  def __init__(self, planner):
    self._policy, self.metadata = planner, planner.metadata

  def plan(self, observation):
    """Observation -> answer; see drivemoe_jax.policy.Policy."""
    return self._policy.plan([observation])[0]

  def close(self):
    """Nothing: the next route uses the same."""


@functools.cache
def load(workdir, step=None, augment=False):
  """The LocalPolicy of a run, compiled."""
  planner = policy.Policy.of_run(build.load_run(workdir, step))
  planner.warmup(augment=augment)
  return LocalPolicy(planner)
