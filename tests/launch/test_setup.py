"""What launch/setup.sh leaves in the environment of what starts after it."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

import launch

# Page faults of a buffer of 64 MB that was had and given back before.
FAULTS = """
import ctypes, resource
libc, size = ctypes.CDLL(None), 64 << 20
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  buffer = libc.malloc(size)
  ctypes.memset(buffer, 1, size)
  libc.free(buffer)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.fixture
def tree(tmp_path):
  """A repository whose install is finished."""
  for folder in ("launch", ".venv/bin"):
    (tmp_path / folder).mkdir(parents=True)
  shutil.copy(os.path.join(os.path.dirname(launch.__file__), "setup.sh"),
              tmp_path / "launch")
  for lock in ("requirements.lock", ".venv/requirements.lock"):
    (tmp_path / lock).write_text("")
  (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
  return tmp_path


def after_setup(tree, script, **environment):
  clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  return subprocess.run(
      ["bash", "-c", f"source launch/setup.sh; {script}"], cwd=tree, text=True,
      capture_output=True, check=True, timeout=60,
      env=clean | environment).stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its variable")
def test_a_big_buffer_is_had_again_without_page_faults(tree):
  count = lambda script: int(
      after_setup(tree, f"{script} \"$PY\" -c '{FAULTS}'"))
  assert count("") < 10 < count("env -u GLIBC_TUNABLES")


def test_who_has_tuned_the_allocator_keeps_that(tree):
  assert after_setup(tree, 'echo "$GLIBC_TUNABLES"',
                     GLIBC_TUNABLES="glibc.malloc.arena_max=2") == (
                         "glibc.malloc.arena_max=2")


def test_byte_code_is_kept(tree):
  assert not after_setup(tree, 'echo "${PYTHONDONTWRITEBYTECODE-}"',
                         PYTHONDONTWRITEBYTECODE="1")
