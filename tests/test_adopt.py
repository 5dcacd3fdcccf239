"""A run of the first format: it restores, is listed, and copies are adopted.

tests/golden/checkpoint_v1 holds a run as version 1 of the format wrote it, and
shape, type and sum of absolute values of each of its arrays.
"""

import json
import os
import pathlib
import shutil
import tarfile

import jax
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import adopt, build, checkpoint, sharding, stepfolders
from drivemoe_jax import step as steps
from launch import checkpoints as command

GOLDEN = pathlib.Path(__file__).parent / "golden" / "checkpoint_v1"


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
  """The run; its only step is 2."""
  folder = tmp_path_factory.mktemp("golden")
  with tarfile.open(GOLDEN / "run.tar.xz") as tar:
    tar.extractall(folder, filter="data")
  return folder


@pytest.fixture
def run(golden, tmp_path):
  """A copy of it to change."""
  shutil.copytree(golden, tmp_path / "run")
  return tmp_path / "run"


def test_a_checkpoint_of_format_1_restores(golden):
  config = build.load_config(str(golden))
  model = build.model(config)
  tx = build.optimizer(config, steps.param_shapes(model))
  mesh = sharding.make_mesh({"data": 1, "fsdp": 2, "expert": 1})
  like = steps.as_items(jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      steps.state_shapes(model, tx), steps.state_shardings(model, tx, mesh)),
      {})
  saved = checkpoint.Checkpoints(str(golden), read_only=True)
  assert saved.latest() == 2 and saved.meta(2)["next_sample"] == 16
  found = saved.restore(2, {k: like[k] for k in ("params", "optimizer")})
  got = {}
  for path, x in jax.tree_util.tree_flatten_with_path(found)[0]:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    got[name] = x
  expected = json.loads((GOLDEN / "expected.json").read_text())
  assert got.keys() == expected.keys()
  for name, (shape, dtype, total) in expected.items():
    assert (list(got[name].shape), str(got[name].dtype)) == (shape, dtype)
    np.testing.assert_allclose(
        np.abs(np.asarray(got[name], np.float64)).sum(), total, rtol=1e-12)
  assert build.load_run(str(golden)).step == 2


def place(run, name="2"):
  return run / "checkpoints" / name


def listing(run):
  return {s["name"]: s for s in command.describe(str(run))["steps"]}


def test_a_copied_step_is_adopted_and_the_copy_stays(run, tmp_path):
  copy = tmp_path / "2.orbax-checkpoint-tmp"
  shutil.move(place(run), copy)
  before = sorted(os.walk(copy))
  step, count, size = adopt.adopt(str(run), str(copy))
  assert (step, count) == (2, 276) and size > 10**5
  assert sorted(os.walk(copy)) == before
  assert os.listdir(run / "checkpoints") == ["2"]
  assert listing(run)["2"]["finished"]
  assert build.load_params(str(run), build.model(
      build.load_config(str(run))))[0] == 2
  with pytest.raises(errors.CheckpointError, match="is there already .whole"):
    adopt.adopt(str(run), str(copy))


def test_a_step_in_its_place_is_completed_there(run):
  shutil.copytree(place(run), place(run, "kept"))
  for name in (stepfolders.MARK, stepfolders.HEADER):
    os.remove(place(run) / name)
  assert listing(run)["2"]["why"] == "it lacks Orbax's commit mark"
  with pytest.raises(errors.CheckpointError, match="is there already .*mark"):
    adopt.adopt(str(run), str(place(run, "kept")))
  adopt.adopt(str(run), str(place(run)))
  assert listing(run)["2"]["finished"]
  saved = checkpoint.Checkpoints(str(run), read_only=True)
  assert saved.restore(2, {"params": saved.tree(2, "params")})["params"]


def rewrite(path, change):
  """Changes the JSON object in a file."""
  value = json.loads(path.read_text())
  change(value)
  path.write_text(json.dumps(value))


def cut_a_file(run):
  files = (place(run) / "params" / "ocdbt.process_0" / "d").iterdir()
  path = max(files, key=os.path.getsize)
  path.write_bytes(path.read_bytes()[:100])


def break_an_array(run):
  """Saves the step anew with one weight that is not a number."""
  saved = checkpoint.Checkpoints(str(run))
  trees = saved.restore(2, {item: saved.tree(2, item)
                            for item in ("params", "optimizer")})
  trees["params"]["view_embedding"] *= np.nan
  meta = saved.meta(2)
  shutil.rmtree(place(run))
  saved = checkpoint.Checkpoints(str(run))
  saved.save(2, trees, meta)
  saved.close()


BROKEN = {
    "no meta": (lambda run: os.remove(place(run) / "meta" / "metadata"),
                "no readable meta"),
    "no optimizer": (lambda run: shutil.rmtree(place(run) / "optimizer"),
                     "optimizer is missing or cut"),
    "a cut file": (cut_a_file, "cannot be read|holds no readable"),
    "a cut copy of a listed step": (
        lambda run: (stepfolders.write_list(place(run)), cut_a_file(run)),
        "1 of .* files are missing or cut"),
    "another format": (
        lambda run: rewrite(place(run) / "meta" / "metadata",
                            lambda meta: meta.update(format=9)),
        "has format 9, this version reads 1"),
    "a config that is none": (
        lambda run: rewrite(place(run) / "meta" / "metadata",
                            lambda meta: meta.update(config=None)),
        "no readable meta"),
    "a step that is no number": (
        lambda run: rewrite(place(run) / "meta" / "metadata",
                            lambda meta: meta.update(step="../../x")),
        "no readable meta"),
    "another config": (
        lambda run: rewrite(run / "config.json",
                            lambda c: c["model"].update(vlm_mlp=8)),
        "model.vlm_mlp is 4 there and 8 here"),
    "another tree": (
        lambda run: [rewrite(path, lambda c: c.get("config", c)["model"].update(
            vlm_mlp=8)) for path in (run / "config.json",
                                     place(run) / "meta" / "metadata")],
        "0 of .* missing, . of another shape"),
    "not finite": (break_an_array, "view_embedding holds numbers that are not"),
}


@pytest.mark.parametrize("harm, told", BROKEN.values(), ids=BROKEN)
def test_what_is_not_whole_is_refused_and_nothing_changes(run, tmp_path, harm,
                                                          told):
  harm(run)
  copy = tmp_path / "copy"
  shutil.move(place(run), copy)
  with pytest.raises(errors.CheckpointError, match=told):
    adopt.adopt(str(run), str(copy))
  assert os.listdir(run / "checkpoints") == []


def test_a_full_disk_leaves_no_half_of_a_step(run, tmp_path, monkeypatch):
  copy = tmp_path / "copy"
  shutil.move(place(run), copy)

  def copytree(source, target):
    os.mkdir(target)
    raise OSError(28, "No space left on device")
  monkeypatch.setattr(shutil, "copytree", copytree)
  with pytest.raises(errors.StorageError, match="No space left"):
    adopt.adopt(str(run), str(copy))
  assert os.listdir(run / "checkpoints") == []


def test_the_command_lists_what_there_is(run, tmp_path, capsys):
  shutil.copytree(place(run), place(run, "4"))
  os.remove(place(run, "4") / "meta" / "metadata")
  place(run, "6.orbax-checkpoint-tmp").mkdir()
  assert command.main(["--workdir", str(run)]) == 0
  out = capsys.readouterr().out
  for part in ("2  finished", "4  unfinished", "missing or cut",
               "6.orbax-checkpoint-tmp", "did not end",
               "latest 2, last healthy 2, best None"):
    assert part in out
  file = tmp_path / "list.json"
  command.main(["--workdir", str(run), "--json", str(file)])
  listed = json.loads(file.read_text())
  assert listed["latest"] == 2 and listed["adopted"] is None
  step = listed["steps"][0]
  assert step["finished"] and step["healthy"] and step["format"] == 1
  assert step["bytes"] > 10**5 and step["next_sample"] == 16
  assert [s["finished"] for s in listed["steps"]] == [True, False, False]


def test_the_command_adopts_and_refuses(run, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.move(place(run), copy)
  argv = ["--workdir", str(run), "--adopt", str(copy)]
  assert command.main([*argv, "--list"]) == 0
  out = capsys.readouterr().out
  assert "adopted step 2: 276 arrays" in out and "latest 2" in out
  assert command.main(argv) == 4
  assert "E-CKPT" in capsys.readouterr().err
  assert command.main(["--workdir", str(tmp_path / "nowhere")]) == 4
