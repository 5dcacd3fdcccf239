"""Checkpoints: equal after a round trip, on any mesh, and never half."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, optim, sharding, step, stepfolders
from tests.parameters import make_params
from tests.small_run import ROOT


def make_mesh(sizes):
  return sharding.make_mesh(dict(zip(sharding.AXES, sizes)))


def make_tx(params):
  return optim.make(params, action_lr=0.1, vlm_lr=0.1,
                    skip_unused_experts=True)


def make_state(sizes, seed=0):
  params = make_params(seed)
  state = step.state_from(params, make_tx(params), make_mesh(sizes))
  noise = iter(range(1000))
  return jax.tree.map(lambda x: x + next(noise), state)  # no two leaves equal


def trees_of(state):
  return {"params": state.params,
          "optimizer": {"opt_state": state.opt_state, "step": state.step}}


def abstract(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=x.sharding), tree)


def assert_equal(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """(run folder, trees) of step 7, saved on 8 devices."""
  folder = tmp_path_factory.mktemp("saved")
  trees = trees_of(make_state((2, 2, 2)))
  run = checkpoint.Checkpoints(folder)
  run.save(7, trees, {"a": [1, "b"]})
  run.close()
  return folder, trees


def like_on(sizes):
  """Where the trees go on another mesh."""
  params = make_params()
  shapes = jax.eval_shape(lambda p: step.new_state(p, make_tx(p)), params)
  places = sharding.infer_state(shapes, params, make_mesh(sizes))
  return trees_of(jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=place), shapes, places))


@pytest.mark.parametrize("sizes", [  # of 8 devices, of 4, of 2 and of 1
    (1, 4, 2), (1, 1, 8), (8, 1, 1), (1, 2, 2), (1, 1, 4), (1, 2, 1),
    (1, 1, 1)])
def test_a_state_comes_back_equal_on_another_mesh(saved, sizes):
  folder, trees = saved
  run = checkpoint.Checkpoints(folder, read_only=True)
  like = like_on(sizes)
  got = run.restore(run.latest(), like)
  assert_equal(got, trees)
  jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
               or pytest.fail("another place"), got, like)
  meta = run.meta(7)
  assert meta["a"] == [1, "b"] and meta["format"] == checkpoint.FORMAT


def test_without_a_place_arrays_go_to_one_device(saved):
  folder, trees = saved
  run = checkpoint.Checkpoints(folder, read_only=True)
  assert run.has(7, "params") and not run.has(7, "carried")
  shapes = run.tree(7, "params")
  got = run.restore(7, {"params": shapes})["params"]
  assert_equal(got, trees["params"])
  assert all(len(x.devices()) == 1 for x in jax.tree.leaves(got))


def test_numpy_arrays_come_without_a_device(saved, tmp_path):
  folder, trees = saved
  run = checkpoint.Checkpoints(folder, read_only=True)
  for item, tree in trees.items():
    found = {name: x.rows() for name, x in run.arrays(7, item).items()}
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert len(found) == len(leaves)
    for path, x in leaves:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      assert type(found[name]) is np.ndarray
      np.testing.assert_array_equal(found[name], x)
  code = ("import sys; from drivemoe_jax import checkpoint; "
          "run = checkpoint.Checkpoints(sys.argv[1], read_only=True); "
          "print(len(run.arrays(run.latest())), run.meta(7)['a'][1])")
  out = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT,
                       env=os.environ | {"JAX_PLATFORMS": "none"},
                       capture_output=True, text=True, check=True)
  assert out.stdout.split() == ["3", "b"]
  half = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)
  run = checkpoint.Checkpoints(tmp_path)
  run.save(1, {"carried": {"a": {"b": half}}, "params": {}}, {})
  run.close()
  run = checkpoint.Checkpoints(tmp_path, read_only=True)
  got = run.arrays(1, "carried")["a/b"].rows()
  assert got.dtype == half.dtype and np.array_equal(got, half)


def saved_run(folder):
  run = checkpoint.Checkpoints(folder)
  run.save(3, {"params": make_params()}, {})
  run.close()
  return checkpoint.Checkpoints(folder, read_only=True)


def test_another_shape_is_refused_before_anything_is_read(tmp_path):
  run = saved_run(tmp_path)
  with pytest.raises(errors.CheckpointError) as caught:
    run.restore(3, {"params": abstract(make_params(layers=2))})
  told = str(caught.value)
  for part in ("E-CKPT", "0 of 3 arrays missing, 1 of another shape",
               "llm/layers/dense/mlp/linear", "(1, 16, 8)", "(2, 16, 8)"):
    assert part in told


def test_a_missing_array_is_refused(tmp_path):
  more = make_params() | {"io": {"kernel": jnp.ones(3)}}
  with pytest.raises(errors.CheckpointError, match="1 of 4.*io/kernel"):
    saved_run(tmp_path).restore(3, {"params": abstract(more)})


def test_an_absent_step_lists_those_there_are(tmp_path):
  run = saved_run(tmp_path)
  with pytest.raises(errors.CheckpointError, match=r"finished step 4.*\[3\]"):
    run.meta(4)
  with pytest.raises(errors.CheckpointError, match="holds no checkpoint"):
    checkpoint.Checkpoints(tmp_path / "elsewhere", read_only=True)


def test_a_broken_file_is_an_error_of_ours(tmp_path):
  run = saved_run(tmp_path)
  for folder, _, names in os.walk(tmp_path / "checkpoints" / "3" / "params"):
    for name in names:
      if folder.endswith("d"):
        path = os.path.join(folder, name)
        size = os.path.getsize(path)
        with open(path, "wb") as file:
          file.write(bytes(size))
  with pytest.raises(errors.CheckpointError, match="cannot be read"):
    run.restore(3, {"params": abstract(make_params())})


def test_a_copy_that_lacks_anything_is_no_step(tmp_path):
  saved_run(tmp_path)
  step = tmp_path / "checkpoints" / "3"
  files = [os.path.join(folder, name) for folder, _, names in os.walk(step)
           for name in names if folder != str(step)]
  assert len(files) > 5
  latest = lambda: checkpoint.Checkpoints(tmp_path, read_only=True).latest()
  for path in files + [str(step / stepfolders.LIST)]:
    os.rename(path, path + ".away")
    assert latest() is None, path
    with open(path + ".away", "rb") as whole, open(path, "wb") as cut:
      cut.write(whole.read()[:-1])
    assert latest() is None, path
    os.replace(path + ".away", path)
  assert latest() == 3
  (step / stepfolders.LIST).unlink()
  with pytest.raises(errors.CheckpointError, match="finished step 3.*is missing"
                     ):
    checkpoint.Checkpoints(tmp_path, read_only=True).meta(3)


def test_reading_changes_nothing(tmp_path):
  saved_run(tmp_path)
  shutil.copytree(tmp_path, tmp_path / "copy")
  before = sorted(os.walk(tmp_path / "copy"))
  run = checkpoint.Checkpoints(tmp_path / "copy", read_only=True)
  run.restore(3, {"params": run.tree(3, "params")})
  run.close()
  assert sorted(os.walk(tmp_path / "copy")) == before


@pytest.mark.parametrize("source, want", [
    ("runs/a", ("runs/a", None)), ("runs/a@40", ("runs/a", 40)),
    ("a@b/c", ("a@b/c", None)), ("@3", ("@3", None))])
def test_a_source_may_name_its_step(source, want):
  assert checkpoint.split_source(source) == want
