"""Whole drives of the agent, and a server that plans for them."""

import contextlib

import numpy as np

from drivemoe_jax import serve
from tests.launch.carla import replay


@contextlib.contextmanager
def serving(policy, **kw):
  with serve.in_background(serve.Server(policy, **kw)) as port:
    yield f"ws://127.0.0.1:{port}"


def driven(agents, recorded, path, change=lambda t, said: said):
  """(controls [T,3], the summary) of a whole drive."""
  agent = replay.start(agents, recorded, path)
  controls = replay.drive(agent, recorded, change)
  summary = agent._driver.summary()
  agent.destroy()
  return np.array(controls), summary
