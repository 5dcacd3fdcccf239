"""What the tests of prepared folders read; see prepared_folders."""

import pytest


@pytest.fixture(scope="session")
def source(tmp_path_factory):
  """Four raw routes; read only."""
  from tests.data_pipeline import prepared_folders
  return prepared_folders.write_routes(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="session")
def whole(source, tmp_path_factory):
  """A folder prepared from them; read only."""
  from tests.data_pipeline import prepared_folders
  out = tmp_path_factory.mktemp("whole")
  prepared_folders.make(source, out)
  return out
