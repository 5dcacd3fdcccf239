"""Checkpoints: equal after a round trip, on any mesh, and never half."""

import os
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, optim, sharding, step

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


def make_state(sizes, seed=0):
  params = make_params(seed)
  tx = optim.make(params, action_lr=0.1, vlm_lr=0.1, skip_unused_experts=True)
  state = step.state_from(params, tx, make_mesh(sizes))
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


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 4, 2), (1, 1, 8), (8, 1, 1)])
def test_a_state_comes_back_equal_on_another_mesh(tmp_path, sizes):
  saved = trees_of(make_state((2, 2, 2)))
  run = checkpoint.Checkpoints(tmp_path)
  run.save(7, saved, {"a": [1, "b"]})
  run.close()
  like = abstract(trees_of(make_state(sizes, seed=1)))
  run = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert run.latest() == 7
  got = run.restore(7, like)
  assert_equal(got, saved)
  jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
               or pytest.fail("another place"), got, like)
  assert run.meta(7) == {"a": [1, "b"], "format": checkpoint.FORMAT}


def test_without_a_place_arrays_go_to_one_device(tmp_path):
  state = make_state((2, 2, 2))
  run = checkpoint.Checkpoints(tmp_path)
  run.save(1, trees_of(state) | {"carried": {}}, {})
  run.close()
  run = checkpoint.Checkpoints(tmp_path, read_only=True)
  assert run.has(1, "params") and not run.has(1, "carried")
  shapes = run.tree(1, "params")
  got = run.restore(1, {"params": shapes})["params"]
  assert_equal(got, state.params)
  assert all(len(x.devices()) == 1 for x in jax.tree.leaves(got))


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
  monkeypatch.setattr(checkpoint.Checkpoints, "_empty_trash", lambda self: None)
  run = checkpoint.Checkpoints(tmp_path, keep_last=1)
  for number in (1, 2, 3):
    run.save(number, {"params": make_params(number)}, {})
  run.close()
  seen = set(os.listdir(tmp_path / "checkpoints"))
  assert seen == {"3", checkpoint.TRASH}
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
        open(os.path.join(folder, name), "wb").close()
  with pytest.raises(errors.CheckpointError, match="cannot be read"):
    run.restore(3, {"params": abstract(make_params())})


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


def test_another_config_is_refused_by_its_first_key():
  saved = {"seed": 0, "model.layers": 4, "optim.action_lr": 1e-3}
  checkpoint.check_config("W", saved, dict(saved))
  with pytest.raises(errors.ResumeError) as caught:
    checkpoint.check_config("W", saved, saved | {
        "model.layers": 6, "optim.action_lr": 1e-4})
  told = str(caught.value)
  for part in ("E-RESUME", "W holds a run", "model.layers is 4 there and 6",
               "another --workdir", "--config.model.layers=4"):
    assert part in told
  assert "action_lr" not in told
  with pytest.raises(errors.ResumeError, match="new is 'absent' there"):
    checkpoint.check_config("W", saved, saved | {"new": 1})


def test_what_changes_no_number_may_change():
  saved = {"log_every": 10, "mesh.fsdp": 8, "data.root": "a", "seed": 0}
  checkpoint.check_config("W", saved, {
      "log_every": 5, "mesh.fsdp": 1, "data.root": "b", "seed": 0})


@pytest.mark.parametrize("source, want", [
    ("runs/a", ("runs/a", None)), ("runs/a@40", ("runs/a", 40)),
    ("a@b/c", ("a@b/c", None)), ("@3", ("@3", None))])
def test_a_source_may_name_its_step(source, want):
  assert checkpoint.split_source(source) == want
