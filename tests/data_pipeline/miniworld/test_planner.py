"""What is recorded as the next node is what a driver's agent looks for."""

import numpy as np
import pytest

from data_pipeline import navigation
from data_pipeline.miniworld import planner


@pytest.mark.parametrize("seed", range(5))
def test_the_recorder_walks_along_nodes_as_the_agent_does(seed):
  rng = np.random.default_rng(seed)
  turns = np.cumsum(rng.normal(0.0, 0.3, 60))
  steps = rng.uniform(1.0, 12.0, 60)[:, None] * np.stack(
      [np.cos(turns), np.sin(turns)], -1)
  nodes = np.cumsum(steps, 0)                            # [60,2]
  commands = rng.integers(1, 7, 60)
  recorded = planner.Planner((nodes, commands), planner.FAR_DISTANCE)
  driven = navigation.RoutePlanner(nodes)
  ways = np.linspace(0, 59, 400)
  for way in np.append(ways, 59.0):                      # along, with noise
    position = nodes[int(way)] + rng.normal(0.0, 2.0, 2)
    x, y, command = recorded.target(position)
    np.testing.assert_array_equal(driven.target(position), (x, y))
    assert command == commands[(nodes == (x, y)).all(-1).argmax()]
