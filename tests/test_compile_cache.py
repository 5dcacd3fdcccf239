"""A folder that works is used and counted; one that does not costs a line."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from drivemoe_jax import compile_cache


@pytest.fixture(autouse=True)
def restored():
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)
  compilation_cache.reset_cache()


def program(x):
  return jnp.sin(x) * 3.25 + 17.5


def test_a_second_run_finds_what_the_first_compiled(tmp_path):
  said = []
  for _ in range(2):
    jax.clear_caches()  # also what other tests have compiled
    cache = compile_cache.use(str(tmp_path / "cache"), said.append)
    call = cache.first_call(jax.jit(program))
    call(jnp.ones(3))
    call(jnp.ones(3))
  first, second = said  # each says it once
  assert " 0 programs found" in first and " 0 compiled" not in first
  assert " 0 compiled" in second and " 0 programs found" not in second
  assert not list(tmp_path.glob("cache/.probe*"))


def test_no_folder_changes_nothing_and_says_nothing():
  before = jax.config.jax_compilation_cache_dir
  said = []
  cache = compile_cache.use("", said.append)
  assert cache.first_call(program)(jnp.ones(2)).shape == (2,)
  assert jax.config.jax_compilation_cache_dir == before and not said


def test_a_folder_that_cannot_be_written_is_left_out(tmp_path):
  (tmp_path / "file").write_text("in the way")
  said = []
  before = jax.config.jax_compilation_cache_dir
  compile_cache.use(str(tmp_path / "file" / "cache"), said.append)
  assert said[0].startswith("W-CACHE: compile_cache") and len(said) == 1
  assert jax.config.jax_compilation_cache_dir == before


def test_a_folder_that_hangs_is_left_out_in_time(monkeypatch):
  class Hanging:
    def __init__(self, path):
      import threading
      threading.Event().wait()

  monkeypatch.setattr(compile_cache.jax_path, "Path", Hanging)
  said = []
  assert not compile_cache.use("gs://far/away", said.append, 0.05).folder
  assert "did not answer within 0.05 s" in said[0]
