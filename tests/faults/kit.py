"""What the fault tests share: small disks, and waiting with an end."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.small_run import ROOT

PATIENCE_S = 300  # a test that waits longer has failed


def wait_until(condition, process=None):
  """Until it holds; a process that ends before is a failure."""
  end = time.monotonic() + PATIENCE_S
  while not condition():
    assert process is None or process.poll() is None, "it ended before"
    assert time.monotonic() < end, "nothing happened"
    time.sleep(0.002)


def python(code, *args, **more):
  """A process of this Python that runs `code`, with its output in a pipe."""
  return subprocess.Popen([sys.executable, "-c", code, *map(str, args)],
                          cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


def command(module, *args, **more):
  """`python -m module args`, output and errors in one pipe."""
  return subprocess.Popen(
      [sys.executable, "-m", module, *map(str, args)], cwd=ROOT, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)


def catches_sigterm(pid):
  """Whether a process has a handler for SIGTERM."""
  with open(f"/proc/{pid}/status", encoding="utf-8") as file:
    caught = next(line for line in file if line.startswith("SigCgt"))
  return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@contextlib.contextmanager
def disk(folder, options):
  """A file system of its own in memory; the test skips where none may be made.

  Args:
    folder: where, made when absent. options: as "size=1m".

  Yields:
    A function that makes it read-only ("ro") to whoever opens a file from then
    on, or writable again ("rw").
  """
  folder = str(folder)
  os.makedirs(folder, exist_ok=True)
  mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
  try:
    made = subprocess.run(mount, capture_output=True)
  except FileNotFoundError:
    pytest.skip("no mount command")
  if made.returncode:
    pytest.skip("may not mount")
  # A second mount on top: the first one is busy while a log is open.
  switch = {"ro": (["mount", "--bind", folder, folder],
                   ["mount", "-o", "remount,bind,ro", folder]),
            "rw": (["umount", "-l", folder],)}
  try:
    yield lambda what: [subprocess.run(command, check=True)
                        for command in switch[what]]
  finally:
    while os.path.ismount(folder):
      subprocess.run(["umount", "-l", folder], check=True)
