"""What every test runs on: eight fake CPU devices, and reference folders.

The variables are set before anything imports jax, which reads them once.
Compiled programs are shared by all tests of a session: many tests trace the
same small model again, and compiling it is most of their time.
"""

import atexit
import os
import pathlib
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([
    # Compiling is most of what the tests cost; one's own flags come last and
    # win: XLA_FLAGS=--xla_backend_optimization_level=3 tests what users run.
    "--xla_backend_optimization_level=0",
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8"])
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # else: a parallel worker
  cache = tempfile.mkdtemp(prefix="drivemoe_jax_tests_")
  atexit.register(shutil.rmtree, cache, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared():
  """Folder of reference data beside a checkout; without it the test skips."""
  folder = ROOT.parent / "shared"
  if not (folder / "golden").is_dir():
    pytest.skip("no reference data beside the repository")
  return folder


@pytest.fixture(scope="session")
def routes(tmp_path_factory):
  """A few synthetic routes with labels; read only."""
  from tests import small_run  # imports jax, which reads the variables above
  return small_run.write_routes(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="session")
def undisturbed(routes, tmp_path_factory):
  """Folder of a run of one device, steps 1 to 8; read only."""
  from tests import small_run
  workdir = tmp_path_factory.mktemp("whole")
  status, lines = small_run.run(small_run.load(routes), workdir)
  assert status == 0 and lines[-1] == "done: step 8"
  assert lines[0].startswith("start: step 0 of 8")
  return workdir
