"""What a run starts from: another run's weights, and what does not fit."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import build, datasets, init_from, sharding, step
from launch import cli
from tests.small_run import CONFIG, assert_equal, load, params_of, run


def first_state(config, say=lambda line: None):
  model = build.model(config)
  mesh = sharding.make_mesh(build.mesh_sizes(config))
  shapes = step.param_shapes(model)
  tx = build.optimizer(config, shapes)
  opened = init_from.source(config)
  return init_from.state(config, model, shapes, tx, mesh, opened, say)[0]


def test_stage_2_starts_from_stage_1(routes, undisturbed, tmp_path):
  said = []
  config = load(routes, ":stage=2", init_from=undisturbed)
  state = first_state(config, said.append)
  assert_equal(jax.device_get(state.params), params_of(undisturbed))
  assert "step 8" in said[0]
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
  assert moments and not any(np.any(x) for x in moments)
  older = load(routes, ":stage=2", init_from=f"{undisturbed}@6")
  said.clear()
  first_state(older, said.append)
  assert "step 6" in said[0]
  # The second stage reads its inputs in the first one's scale.
  windows = datasets.windows(config, str(tmp_path), "val")
  theirs = build.load_run(str(undisturbed)).statistics
  assert datasets.statistics(config, str(tmp_path), windows) == theirs


@pytest.mark.parametrize("key", ["init_missing", "init_extra"])
def test_a_broken_pattern_is_told_before_any_data_are_read(key):
  with pytest.raises(errors.ConfigError, match=r"'\*router\*' is no regex"):
    init_from.source(cli.load_config(CONFIG, [f"--config.{key}='*router*'"]))


def test_a_run_goes_on_without_what_it_started_from(routes, undisturbed,
                                                   tmp_path):
  source, workdir = tmp_path / "first", tmp_path / "second"
  shutil.copytree(undisturbed, source)
  begin = lambda updates: run(load(routes, ":stage=2", init_from=source,
                                   total_updates=updates), workdir)
  begin(1)
  shutil.rmtree(source)
  status, lines = begin(2)
  assert status == 0 and lines[0].startswith("resume: step 1,")


@pytest.mark.parametrize("changes, told", [
    (dict(init_from="nowhere"), "E-CKPT: no weights at nowhere"),
    (dict(init_from="{}@5"), "no finished step 5"),
    (dict(init_from="{}", model__layers=3), "E-CKPT"),
    (dict(init_from="{}", model__vlm_mlp=48), "reshaped"),
])
def test_stage_2_refuses_what_is_not_its_stage_1(routes, undisturbed, changes,
                                                 told):
  changes["init_from"] = changes["init_from"].format(undisturbed)
  with pytest.raises(errors.CheckpointError) as caught:
    first_state(load(routes, ":stage=2", **changes))
  assert told in str(caught.value)


def test_stage_2_needs_a_stage_1(routes, undisturbed, tmp_path):
  config = load(routes, ":stage=2")
  with config.unlocked():
    config.init_from = None
  with pytest.raises(errors.ConfigError, match="init_from=WORKDIR"):
    first_state(config)
  for name in ("checkpoints", "statistics.json"):
    os.symlink(undisturbed / name, tmp_path / name)
  second = json.loads((undisturbed / "config.json").read_text()) | {"stage": 2}
  (tmp_path / "config.json").write_text(json.dumps(second))
  with pytest.raises(errors.CheckpointError, match="is of stage 2"):
    first_state(load(routes, ":stage=2", init_from=tmp_path))
