"""What every test runs on: eight fake CPU devices, and reference folders.

The variables are set before anything imports jax, which reads them once.
"""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8"]).strip()
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
