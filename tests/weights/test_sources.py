"""Starts of a run: what each source gives, lacks, and is refused for."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from data_pipeline import errors
from drivemoe_jax import checkpoint, sharding
from drivemoe_jax.weights import blocks, names, read, sources, write
from tests.weights import trees
from tests.weights.test_read import assert_same

SIZES = trees.ODD | dict(vocab_size=128)
MODEL = trees.shapes(SIZES)
RUN = dict(stage=1, horizon=3, history=2)


@pytest.fixture(scope="module")
def places():
  mesh = sharding.make_mesh({"data": 4, "fsdp": 2, "expert": 1})
  return sharding.infer(MODEL, mesh)


def start(source, places, missing="", extra="", **kwargs):
  opened = sources.open_checked(str(source), **RUN | kwargs)
  return sources.load(opened, MODEL, places, missing=missing, extra=extra)


def save_run(folder, params, stage=1, horizon=3):
  folder.mkdir()
  (folder / "config.json").write_text(json.dumps({
      "stage": stage, "model": {"horizon": horizon, "history": 2}}))
  saved = checkpoint.Checkpoints(str(folder))
  for step, tree in params.items():
    saved.save(step, tree, {})
  saved.close()
  return folder


@pytest.fixture(scope="module")
def drive_pi0():
  return trees.random_weights(trees.shapes(SIZES | trees.PI0), seed=7)


@pytest.mark.parametrize("column, name", [("bv", "x.npz"), ("hf", "x")])
def test_paligemma_alone_leaves_the_experts_fresh(
    places, tmp_path, column, name):
  weights = trees.paligemma(SIZES)
  source = write.write(str(tmp_path / name), weights, column=column)
  found = start(source, places)
  held = blocks.flatten(found.params)
  assert {p for p in blocks.flatten(MODEL) if p.startswith(("img/", "llm/"))
          } == set(held)
  assert set(found.fresh) | set(held) == set(blocks.flatten(MODEL))
  assert_same(found.carried, weights.carried)
  stack = blocks.flatten(weights.params)["llm/layers/dense/mlp/linear"]
  groups = [held[f"llm/layers/{g}/mlp/linear"] for g in names.GROUPS]
  np.testing.assert_array_equal(np.concatenate(groups), stack)
  for path, leaf in held.items():
    assert leaf.sharding == blocks.flatten(places)[path]
  with pytest.raises(errors.CheckpointError, match="missing: .*expert/"):
    start(source, places, stage=2)
  lines = sources.summary(found, MODEL)
  assert any(line.split()[:2] == ["loaded", "img"] for line in lines)
  assert any(line.split()[:2] == ["fresh", "router/camera"] for line in lines)
  shown = sum(int(line.split()[4].replace(",", "")) for line in lines)
  assert shown == sum(x.size for x in jax.tree.leaves(MODEL))


@pytest.mark.parametrize("kind", ["run", "file"])
def test_drive_pi0_starts_all_but_experts_and_routers(
    places, tmp_path, drive_pi0, kind):
  source = (save_run(tmp_path / "run", {3: {"params": drive_pi0.params}})
            if kind == "run" else
            write.write(str(tmp_path / "x.pt"), drive_pi0))
  found = start(source, places)
  fresh = [p for p in found.fresh if not p.startswith("router/")]
  assert sorted(fresh) == [
      "expert/action/layers/last/moe/gating_einsum",
      "expert/action/layers/last/moe/linear",
      "expert/action/layers/moe/moe/gating_einsum",
      "expert/action/layers/moe/moe/linear", "view_embedding"]
  # Three late layers: two "moe", one "last"; 2 of 4 dense ones are theirs.
  theirs, ours = (blocks.flatten(x.params) for x in (drive_pi0, found))
  late = theirs["expert/shared/layers/dense/attn/q_einsum/w"][2:]
  for stream in ("action", "proprio"):
    np.testing.assert_array_equal(
        ours[f"expert/{stream}/layers/moe/attn/q_einsum/w"], late)
    np.testing.assert_array_equal(
        ours[f"expert/{stream}/final_norm/scale"],
        theirs["expert/shared/final_norm/scale"])
  np.testing.assert_array_equal(
      ours["expert/proprio/layers/moe/mlp/linear"],
      theirs["expert/shared/layers/dense/mlp/linear"][2:])
  assert len(found.skipped) == 3 * 3  # the action stream's dense MLPs
  assert all("action.layers" in key and "mlp" in key for key in found.skipped)
  with pytest.raises(errors.CheckpointError, match="missing"):
    start(source, places, stage=2)


def test_another_runs_step_comes_whole_with_what_it_carries(places, tmp_path):
  trees_of = {step: trees.random_weights(MODEL, seed=step).params
              for step in (4, 8)}
  carried = {"llm": {"final_norm": {"scale": np.arange(16, dtype=np.float32)}}}
  run = save_run(tmp_path / "run", {
      step: {"params": tree, "carried": carried}
      for step, tree in trees_of.items()})
  for source, step in ((run, 8), (f"{run}@4", 4)):
    for stage in (1, 2):
      found = start(source, places, stage=stage)
      assert not found.fresh and not found.skipped
      assert_same(found.params, trees_of[step])
      assert_same(found.carried, carried)
      assert f"step {step}" in found.source
  with pytest.raises(errors.CheckpointError, match="no finished step 5"):
    start(f"{run}@5", places)


def test_a_stem_of_convolutions_starts_one_like_it_alone(places, tmp_path):
  model = trees.shapes(SIZES | dict(vision_stem="conv", patch_size=4,
                                    image_size=12))
  params = trees.random_weights(model).params
  run = save_run(tmp_path / "run", {4: {"params": params}})
  opened = sources.open_checked(str(run), **RUN)
  where = sharding.infer(model, sharding.make_mesh(
      {"data": 4, "fsdp": 2, "expert": 1}))
  assert_same(sources.load(opened, model, where).params, params)
  with pytest.raises(errors.CheckpointError, match="patch_embedding"):
    sources.load(opened, MODEL, places)


def test_other_stages_and_horizons_are_refused(places, tmp_path):
  params = {"params": trees.random_weights(MODEL).params}
  second = save_run(tmp_path / "two", {1: params}, stage=2)
  with pytest.raises(errors.CheckpointError, match="of stage 2; stage 2 start"):
    start(second, places, stage=2)
  assert not start(second, places, stage=1).fresh
  official = write.write(str(tmp_path / "x.pt"), trees.random_weights(MODEL))
  with pytest.raises(errors.CheckpointError, match="of stage 2; stage 2 start"):
    start(official, places, stage=2)
  with pytest.raises(errors.CheckpointError,
                     match="horizon_steps 3, this run model.horizon 5"):
    start(official, places, horizon=5)
  with pytest.raises(errors.CheckpointError, match="cond_steps 2"):
    start(official, places, history=4)


def test_a_prefix_loads_that_part_alone(places, tmp_path):
  npz = write.write(str(tmp_path / "x.npz"), trees.paligemma(SIZES),
                    column="bv")
  official = write.write(str(tmp_path / "x.pt"), trees.random_weights(MODEL))
  for source, prefix in ((f"{npz}:img", "img/"), (f"{npz}:llm", "llm/"),
                         (f"{official}:expert/action", "expert/action/"),
                         (f"{official}:img/Transformer", "img/Transformer/")):
    found = start(source, places)
    held = blocks.flatten(found.params)
    assert held and all(path.startswith(prefix) for path in held)
    assert len(held) + len(found.fresh) == len(blocks.flatten(MODEL))
    assert found.skipped and not found.carried
  with pytest.raises(errors.CheckpointError, match="holds nothing under nope"):
    start(f"{npz}:nope", places)


def test_regexes_allow_what_may_differ(places, tmp_path):
  weights = trees.random_weights(MODEL)
  dropped = blocks.flatten(weights.params)
  fixed = trees.shapes(SIZES | dict(view=()))
  kept = {path: dropped[path] for path in blocks.flatten(fixed)}
  source = write.write(str(tmp_path / "x.pt"), read.Weights(
      blocks.unflatten(kept), {"skill": weights.alphas["skill"]}, {}))
  with pytest.raises(errors.CheckpointError, match="camera_router.*missing|"
                     "missing: camera_router"):
    start(source, places)
  missing = r"router/camera/.*|view_embedding|criterion\.camera.*"
  found = start(source, places, missing=missing)
  assert all(path.startswith(("router/camera", "view_")) for path in
             found.fresh)
  # A leaf that is there in part is never made whole by a regex.
  one = [e for e in names.entries(blocks.shapes_of(MODEL))
         if e.pieces[0].path == "llm/layers/moe/mlp/linear"][0]
  file, _ = sources.open_source(source)
  del file.tensors[one.key]
  with pytest.raises(errors.CheckpointError, match=f"1 missing: {one.key}"):
    read.load(file, MODEL, allowed=read.Allowed(missing=".*"))


def openpi(tmp_path, pi0, suffix):
  """A pi0 checkpoint as openpi saves it, from a Drive-pi0 of ours."""
  flat, tree = blocks.flatten(pi0.params), {}
  flat = {p: v for p, v in flat.items() if not p.startswith("io/")}
  flat[read.CARRIED] = np.ones(16, np.float32)
  for entry in names.entries(blocks.shapes_of(flat), "pi0"):
    tree[f"{entry.key}{suffix}"] = entry.gather(flat)
  for name, shape in {"action_in_proj": (32, 14), "state_proj": (32, 14),
                      "action_time_mlp_in": (28, 14),
                      "action_time_mlp_out": (14, 14),
                      "action_out_proj": (14, 32)}.items():
    tree[f"{name}/kernel{suffix}"] = np.zeros(shape, np.float32)
    tree[f"{name}/bias{suffix}"] = np.zeros(shape[1:], np.float32)
  folder = tmp_path / "pi0" / "params"
  with ocp.PyTreeCheckpointer() as saver:
    saver.save(folder, {"params": blocks.unflatten(tree)})
  return folder


@pytest.mark.parametrize("suffix", ["", "/value"])
def test_openpis_pi0_starts_the_language_model_and_both_streams(
    places, tmp_path, drive_pi0, suffix):
  folder = openpi(tmp_path, drive_pi0, suffix)
  for source in (folder, folder.parent):
    found = start(source, places)
    theirs, ours = (blocks.flatten(x.params) for x in (drive_pi0, found))
    for stream in ("action", "proprio"):
      np.testing.assert_array_equal(
          ours[f"expert/{stream}/layers/last/attn/kv_einsum/w"],
          theirs["expert/shared/layers/last/attn/kv_einsum/w"])
    np.testing.assert_array_equal(
        ours["expert/shared/layers/dense/mlp/gating_einsum"],
        theirs["expert/shared/layers/dense/mlp/gating_einsum"][:2])
    np.testing.assert_array_equal(
        ours["llm/layers/moe/mlp/linear"],
        theirs["llm/layers/dense/mlp/linear"][2:4])
    assert all(path.startswith(("router/", "io/", "view_")) or "/moe/" in path
               for path in found.fresh)
    assert {key.split("/")[0] for key in found.skipped} == {
        "action_in_proj", "state_proj", "action_time_mlp_in",
        "action_time_mlp_out", "action_out_proj"}


def test_every_byte_of_a_file_is_read_once(places, tmp_path, monkeypatch):
  weights = trees.random_weights(MODEL)
  path = write.write(str(tmp_path / "x.safetensors"), weights)
  fromfile, ranges = np.fromfile, []

  def counted(file, dtype, count, offset=0):
    ranges.append((offset, offset + count))
    return fromfile(file, dtype, count, offset=offset)

  monkeypatch.setattr(np, "fromfile", counted)
  start(path, places)
  ranges.sort()
  assert all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:]))
  size = sum(stop - begin for begin, stop in ranges)
  assert size == sum(
      np.prod(shape) * 4 for _, shape, _ in write.table(weights))
