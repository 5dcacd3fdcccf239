"""Child processes that begin at once: forks of a parent that has imported all.

To SIGKILL a fork is a process like any other, and a hundred of them cost no
hundred imports of TensorFlow. The parent may import jax and TensorFlow but
never run them: their threads would be missing in the child.
"""

import importlib
import os
import pathlib
import subprocess
import sys
import time
import traceback
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRELOADED = ("drivemoe_jax.train", "drivemoe_jax.weights.write",
             "drivemoe_jax.weights.sources", "data_pipeline.pack",
             "tensorflow", "launch.train", "launch.prepare", "launch.convert")
CRASHED = 70  # exit status of an exception that nothing caught


def preload():
  """Imports what the children need; starts no thread that a fork would miss."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  for name in PRELOADED:
    importlib.import_module(name)
  warnings.filterwarnings("ignore", message=".*fork.*")


class Child:
  """A process that was started here.

  Attributes:
    log: file of what it prints. began: time.monotonic() of its start.
    status: exit status, minus the signal that ended it; None while it runs.
  """

  def __init__(self, pid, log):
    self.pid, self.log, self.status = pid, log, None
    self.began = time.monotonic()

  def running(self):
    if self.status is None:
      pid, code = os.waitpid(self.pid, os.WNOHANG)
      if pid:
        self.status = os.waitstatus_to_exitcode(code)
    return self.status is None

  def signal(self, number):
    """Sends a signal, unless it has ended."""
    if self.running():
      os.kill(self.pid, number)

  def wait(self):
    """Its exit status, once it has ended."""
    while self.running():
      time.sleep(0.002)
    return self.status

  def said(self):
    with open(self.log, encoding="utf-8", errors="replace") as file:
      return file.read()


def fork(function, log):
  """Starts `function` in a fork; what it returns is the exit status."""
  open(log, "w").close()  # the parent may read it at once
  sys.stdout.flush()
  sys.stderr.flush()
  pid = os.fork()
  if pid:
    return Child(pid, log)
  status = CRASHED
  try:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    status = function() or 0
  except SystemExit as leaving:
    status = leaving.code if isinstance(leaving.code, int) else 1
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    os._exit(status)


def command(module, argv, log):
  """Starts `python -m module argv` as a user does."""
  with open(log, "w", encoding="utf-8") as file:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *argv], cwd=ROOT, stdout=file,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        start_new_session=True)
  process.returncode = 0  # it is waited for here, by its id
  return Child(process.pid, log)
