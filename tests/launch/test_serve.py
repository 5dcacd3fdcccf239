"""The command: what it refuses, and a life from start to SIGTERM."""

import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from data_pipeline import wire
from launch import serve
from launch.carla import remote
from tests import fake_policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
START = """
import sys
from drivemoe_jax import build, policy
from launch import serve
from tests import fake_policy

class Warm(fake_policy.FakePolicy):
  def warmup(self, max_batch, augment):
    print(f"warm-up {max_batch} {augment}", flush=True)
    return 0.0

build.load_run = lambda workdir, step: (workdir, step)
policy.Policy.of_run = lambda run, **sampling: Warm()
sys.exit(serve.main(sys.argv[1:]))
"""


def start(*args):
  return subprocess.Popen(
      [sys.executable, "-c", START, "--workdir", "run", *args], cwd=ROOT,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_warms_up_listens_answers_and_ends_when_told(tmp_path):
  key = tmp_path / "key"
  key.write_text("k")
  process = start("--port", "0", "--api-key-file", str(key), "--host",
                  "0.0.0.0", "--max-batch", "2", "--augment")
  try:
    assert process.stdout.readline() == "warm-up 2 True\n"
    port = int(re.fullmatch(r"serve: listening on ws://0.0.0.0:(\d+)\n",
                            process.stdout.readline())[1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
      assert answer.status == 200
    client = remote.RemotePolicy(f"ws://127.0.0.1:{port}", wire.read_key(key))
    client.wait(5.0)
    example = fake_policy.FakePolicy().example(4)
    assert client.plan(example)["actions"][0, 0] == 4
    client.close()
    other = start("--port", str(port))       # the port is taken
    assert other.wait(60) == 2
    assert "choose another --port" in other.stderr.read()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stdout.read() == "serve: done\n"
  finally:
    process.kill()


@pytest.mark.parametrize("args, text", [
    (["--host", "0.0.0.0"], "lets other machines in; give --api-key-file"),
    (["--max-batch", "0"], "--max-batch 0: must be positive"),
    (["--max-clients", "0"], "--max-clients 0: must be positive"),
    (["--max-rate", "-1"], "--max-rate -1.0: must be positive"),
    (["--api-key-file", "nowhere"], "No such file"),
    ([], "config.json")])
def test_what_cannot_be_served_is_refused(args, text, tmp_path, capsys):
  assert serve.main(["--workdir", str(tmp_path), *args]) in (2, 4)
  assert text in capsys.readouterr().err
