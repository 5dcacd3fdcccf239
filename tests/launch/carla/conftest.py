"""What every drive of the agent needs: ticks, the module, a config file."""

import importlib
import json
import sys

import pytest

from tests.launch.carla import recorded_ticks, replay


@pytest.fixture(scope="module")
def recorded():
  return recorded_ticks.record()


@pytest.fixture(scope="module")
def agents():
  """The agent's module, beside stubs of what only a simulator's Python has."""
  with pytest.MonkeyPatch.context() as patch:
    for name, module in replay.stub_modules().items():
      patch.setitem(sys.modules, name, module)
    yield importlib.import_module("launch.carla.agent")


@pytest.fixture
def config(tmp_path):
  """Writes an agent's config; returns its path."""

  def write(**values):
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({
        "camera_width": recorded_ticks.WIDTH, "wait_s": 0.0, **values}))
    return str(path)

  return write
