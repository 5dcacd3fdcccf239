"""Nothing of a run reaches for the network: training, evaluation, export.

Where the system lets us, the commands run without any network but loopback, so
that no library's own sockets get out either. Elsewhere Python's sockets are
watched, which is the weaker test.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests import small_run

# A network namespace whose only interface is loopback.
NAMESPACE = ["unshare", "--map-root-user", "--net", "sh", "-c",
             'ip link set lo up && exec "$@"', "sh"]
WATCH = '''
import socket

def refuse(real):
  def call(self, address, *rest):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(
        ("127.", "::1", "localhost")):
      raise PermissionError(f"network: {address}")
    return real(self, address, *rest)
  return call

class Socket(socket.socket):
  connect = refuse(socket.socket.connect)
  connect_ex = refuse(socket.socket.connect_ex)

socket.socket = Socket
'''
ASK = """
import errno, socket
with socket.socket() as server:  # loopback is there
  server.bind(("127.0.0.1", 0))
  server.listen()
  socket.create_connection(server.getsockname(), 5).close()
try:  # an address of nobody's, kept for documentation
  socket.create_connection(("192.0.2.1", 80), 3)
except OSError as error:
  assert (error.errno == errno.ENETUNREACH
          or str(error).startswith("network: ")), error
else:
  raise SystemExit("somebody answers")
"""


def namespaces():
  """Whether this system lets us make one."""
  return all(map(shutil.which, ("unshare", "ip"))) and subprocess.run(
      [*NAMESPACE, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module", params=["namespace", "sockets"])
def offline(request, tmp_path_factory):
  """Runs Python with arguments and without network; returns what it said."""
  prefix = NAMESPACE if request.param == "namespace" else []
  if prefix and not namespaces():
    pytest.skip("this system lets nobody make a network namespace")
  env = os.environ | {"XLA_FLAGS": ""}
  if not prefix:
    folder = tmp_path_factory.mktemp("watch")
    (folder / "sitecustomize.py").write_text(WATCH)
    env["PYTHONPATH"] = str(folder)

  def run(*arguments):
    done = subprocess.run(
        [*prefix, sys.executable, *map(str, arguments)], cwd=small_run.ROOT,
        env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

  run.name = request.param
  return run


def test_the_network_is_really_gone(offline):
  offline("-c", ASK)


@pytest.mark.slow
def test_training_evaluation_and_export_need_no_network(
    offline, routes, tmp_path):
  workdir = tmp_path / "run"
  said = offline("-m", "launch.train", "--config", small_run.CONFIG,
                 "--workdir", workdir,
                 *small_run.overrides(routes, {"total_updates": 2}))
  assert said.splitlines()[-1] == "done: step 2"
  offline("-m", "launch.evaluate", "--workdir", workdir, "--limit", 4,
          "--json", tmp_path / "scores.json")
  assert json.loads((tmp_path / "scores.json").read_text())["open_loop"]
  offline("-m", "launch.convert", "--source", workdir, "--target",
          tmp_path / "weights.safetensors")
  assert (tmp_path / "weights.safetensors").stat().st_size > 1000


@pytest.mark.slow
def test_recording_needs_no_network(offline, tmp_path):
  offline("-m", "launch.record", "--out", tmp_path / "data", "--scenarios",
          "TJunction", "--train-seeds", 1, "--val-seeds", 0, "--size", "64x36",
          "--workers", 1)
  assert os.listdir(tmp_path / "data" / "routes")
