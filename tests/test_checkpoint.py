"""Checkpoints: equal after a round trip, on any mesh, and never half."""

import os
import resource
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, optim, sharding, step, stepfolders

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def make_mesh(sizes):
  return sharding.make_mesh(dict(zip(sharding.AXES, sizes)))


def make_params(seed=0, layers=1):
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.array(rng.normal(size=shape), jnp.float32)
  return {
      "llm": {"layers": {"dense": {"mlp": {"linear": normal(layers, 16, 8)}}}},
      "expert": {"action": {"layers": {"last": {"moe": {
          "linear": normal(1, 8, 8, 4)}}}}},
      "router": {"skill": {"kernel": normal(4, 7)}}}


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


def fail_once(monkeypatch, error, times=1):
  """A disk that breaks while a save is under way, as Orbax tells it."""
  real, left = stepfolders.write_list, [error] * times

  def write_list(path):
    if left:
      raise left.pop()
    real(path)
  monkeypatch.setattr(stepfolders, "write_list", write_list)


def test_a_failed_save_is_told_leaves_nothing_and_costs_no_older_step(
    tmp_path, monkeypatch):
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  run.save(1, {"params": make_params()}, {})
  assert run.outcome(wait=True) == checkpoint.Outcome(1, None)
  full = OSError(28, "No space left on device")
  fail_once(monkeypatch, full, times=2)
  run.save(2, {"params": make_params()}, {})
  assert run.outcome(wait=True) == checkpoint.Outcome(2, full)
  assert run.outcome(wait=True) is None  # told once
  assert os.listdir(tmp_path / "checkpoints") == ["1"]
  run.save(2, {"params": make_params()}, {})  # nobody asks how it went
  with pytest.raises(errors.SaveError, match="E-SAVE: step 2 .*No space.*: 1"):
    run.save(3, {"params": make_params()}, {})
  run.save(3, {"params": make_params()}, {})
  run.close()
  assert os.listdir(tmp_path / "checkpoints") == ["3"]


def test_a_write_that_the_system_refuses_is_a_failed_save(tmp_path):
  run = checkpoint.Checkpoints(tmp_path)
  big = {"params": {"x": jnp.arange(2e5)}}
  old = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, old[1]))  # bytes a file
  try:
    run.save(1, big, {})
    found = run.outcome(wait=True)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
  assert found.step == 1 and "File too large" in found.why
  run.save(1, big, {})
  run.close()
  assert run.latest() == 1


def test_a_folder_that_cannot_be_written_is_a_failed_save(tmp_path,
                                                          monkeypatch):
  run = checkpoint.Checkpoints(tmp_path)

  def begin(folder, step):
    raise PermissionError(13, "Permission denied", folder)
  monkeypatch.setattr(stepfolders, "begin", begin)
  run.save(1, {"params": make_params()}, {})
  with pytest.raises(errors.SaveError, match="Permission denied.*good: None"):
    run.close()


def test_what_lies_in_the_way_is_kept_under_another_name(tmp_path):
  folder = tmp_path / "checkpoints"
  for name in ("2", "2.orbax-checkpoint-tmp"):
    (folder / name).mkdir(parents=True)
    (folder / name / "theirs").write_text("x")
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  assert run.latest() is None
  for number in (1, 2):
    run.save(number, {"params": make_params()}, {})
  run.close()
  assert run.latest() == 2
  kept = {name for name in os.listdir(folder) if name != "2"}
  assert kept == {"unfinished-2", "unfinished-2.orbax-checkpoint-tmp"}
  assert all((folder / name / "theirs").exists() for name in kept)


def test_old_steps_go_and_milestones_stay(tmp_path):
  run = checkpoint.Checkpoints(tmp_path, keep_last=2, keep_every=4)
  for number in range(1, 8):
    run.save(number, {"params": make_params(number)}, {"n": number})
  run.save(7, {"params": make_params(0)}, {"n": 0})  # it is there already
  run.close()
  assert sorted(os.listdir(tmp_path / "checkpoints")) == ["4", "6", "7"]
  again = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert again.latest() == 7 and again.meta(7)["n"] == 7


def test_a_step_that_goes_is_out_of_sight_before_its_files_go(
    tmp_path, monkeypatch):
  # As if killed before the trash was emptied.
  monkeypatch.setattr(stepfolders, "empty_trash", lambda folder: None)
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  for number in (1, 2, 3):
    run.save(number, {"params": make_params(number)}, {})
  run.close()
  seen = set(os.listdir(tmp_path / "checkpoints"))
  assert seen == {"3", stepfolders.TRASH}
  assert checkpoint.Checkpoints(tmp_path, read_only=True).latest() == 3


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


KILLED = """
import sys, jax.numpy as jnp
from drivemoe_jax import checkpoint
run = checkpoint.Checkpoints(sys.argv[1], keep_last=1)
for step in range(1, 1000):
  run.save(step, {"params": {"x": jnp.full((3000, 1000), step * 1.0)}}, {})
  print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_after_a_kill_the_latest_step_is_whole(tmp_path, delay):
  child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)],
                           cwd=ROOT, stdout=subprocess.PIPE)
  for _ in range(3):
    child.stdout.readline()
  time.sleep(delay)
  child.kill()
  child.wait()
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  last = run.latest()
  assert last >= 1
  got = run.restore(last, {"params": run.tree(last, "params")})["params"]
  np.testing.assert_array_equal(got["x"], np.full((3000, 1000), last * 1.0))
  run.save(last + 1, {"params": got}, {})  # over the leftovers of the kill
  run.close()
  assert os.listdir(tmp_path / "checkpoints") == [str(last + 1)]


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
