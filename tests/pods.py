"""Several hosts on this machine: one process each, with pretended devices.

Every process is bounded in time, and ended by its id when a test is through.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Compiling is nearly all that a tiny run costs: little of it, and that once.
CHEAP = ("--xla_backend_optimization_level=0 "
         "--xla_llvm_disable_expensive_passes=true")


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def environment(devices):
  return os.environ | {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS":
          f"--xla_force_host_platform_device_count={devices} {CHEAP}"}


class Host:
  """One process of a pod: `wait` gives (status, output, errors) of it."""

  def __init__(self, command, devices):
    self._process = subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)  # as on another machine

  def wait(self, timeout_s):
    out, errors = self._process.communicate(timeout=timeout_s)
    return self._process.returncode, out.splitlines(), errors.splitlines()

  def running(self):
    return self._process.poll() is None

  def terminate(self):
    self._process.terminate()

  def kill(self):
    self._process.kill()

  def end(self):
    self._process.kill()
    self._process.communicate()


@contextlib.contextmanager
def pod(module, count, devices, *flags, each=lambda process: ()):
  """Starts `python -m module flags` on `count` hosts; yields the Hosts.

  Args:
    devices: of each host. each: process id -> its own flags.
  """
  port = free_port()
  started = []
  try:
    for process in range(count):
      started.append(Host(
          [sys.executable, "-m", module, *map(str, flags), "--coordinator",
           f"127.0.0.1:{port}", "--processes", str(count), "--process-id",
           str(process), *map(str, each(process))], devices))
    yield started
  finally:
    for host in started:
      host.end()


def log_of(workdir):
  """Lines of metrics.jsonl; none before there is one."""
  path = pathlib.Path(workdir, "metrics.jsonl")
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines(True)
          if line.endswith("\n")]


def wait_for_step(workdir, step, hosts, timeout_s):
  """Until a run has logged `step`; a host that ends before is a failure."""
  end = time.monotonic() + timeout_s
  while not any(line["step"] >= step for line in log_of(workdir)):
    for host in hosts:
      assert host.running(), host.wait(10)
    assert time.monotonic() < end, f"no step {step} after {timeout_s} s"
    time.sleep(0.05)
