"""The agent in Python 3.7 and 3.8, and openpi's own client."""

import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import fake_policy
from tests.launch.carla import replay
from tests.launch.carla.drives import driven, serving

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What the agent loads besides the wheels of its own Python.
OLD_SYNTAX = (
    "data_pipeline/__init__.py", "data_pipeline/errors.py",
    "data_pipeline/prompt.py", "data_pipeline/spec.py",
    "data_pipeline/control.py", "data_pipeline/driver.py",
    "data_pipeline/navigation.py", "data_pipeline/safety.py",
    "data_pipeline/sensor_images.py", "data_pipeline/sensor_watch.py",
    "data_pipeline/ticks.py", "data_pipeline/wire.py", "launch/__init__.py",
    "launch/carla/__init__.py", "launch/carla/agent.py",
    "launch/carla/remote.py")


def test_the_agent_keeps_to_old_syntax():
  for name in OLD_SYNTAX:
    ast.parse((ROOT / name).read_text(encoding="utf-8"),
              feature_version=(3, 7))


def interpreters():
  """Old Pythons with the client's packages: those in CARLA_PYTHONS, and
  python3.7 and python3.8 where they have them."""
  named = os.environ.get("CARLA_PYTHONS", "").split(os.pathsep)
  for path in [*filter(None, named), *filter(None, map(
      shutil.which, ("python3.7", "python3.8")))]:
    probe = subprocess.run(
        [path, "-c", "import numpy, PIL, msgpack, websockets.sync.client"],
        capture_output=True)
    if probe.returncode == 0:
      yield path


def test_old_pythons_drive_alike(agents, recorded, config, tmp_path):
  found = list(interpreters())
  if not found:
    pytest.skip("no Python 3.7 or 3.8 with numpy, pillow, msgpack, websockets")
  np.savez(tmp_path / "ticks.npz", **recorded)
  with serving(fake_policy.FakePolicy(tell=0.005)) as url:
    path = config(server=url)
    here, _ = driven(agents, recorded, path)
    for python in found:
      subprocess.run(
          [python, replay.__file__, ROOT, tmp_path / "ticks.npz", path,
           tmp_path / "out.json"], check=True, cwd=tmp_path)
      told = json.loads((tmp_path / "out.json").read_text())
      # Other versions of Pillow and numpy round the last bits otherwise.
      np.testing.assert_allclose(told["controls"], here, atol=1e-5)
      assert told["heavy"] == []


def test_openpi_s_client_works_unchanged(tmp_path):
  code = ("import sys, numpy as np\n"
          "from openpi_client import websocket_client_policy as w\n"
          "p = w.WebsocketClientPolicy('127.0.0.1', int(sys.argv[1]), 'k')\n"
          "assert p.get_server_metadata()['horizon'] == 10\n"
          "o = {'images': np.zeros((7, 8, 8, 3), np.uint8), 'step': 5,\n"
          "     'proprio': np.ones((5, 10), np.float32)}\n"
          "for _ in range(3):\n"
          "  assert (p.infer(o)['actions'][0] == 6).all()\n"
          "try:\n"
          "  p.infer({'images': o['images']})\n"
          "except RuntimeError as error:\n"
          "  assert 'E-DATA' in str(error)\n"
          "assert (p.infer(o)['actions'][0] == 6).all()\n")
  pythons = [p for p in [sys.executable, *interpreters()] if not subprocess.run(
      [p, "-c", "import openpi_client, typing_extensions"],
      capture_output=True).returncode]
  if not pythons:
    pytest.skip("no Python with openpi-client and typing_extensions")
  with serving(fake_policy.FakePolicy(), api_key="k") as url:
    for python in pythons:
      subprocess.run([python, "-c", code, url.rpartition(":")[2]], check=True,
                     cwd=tmp_path)
