"""The state that a run begins with when it starts from weights."""

import jax
import numpy as np
import pytest

from configs import tiny
from data_pipeline import errors
from drivemoe_jax import build, init_from, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.weights import blocks, read, write
from tests.weights import trees

SIZES = trees.ODD | dict(vocab_size=128)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
  return write.write(str(tmp_path_factory.mktemp("bv") / "x.npz"),
                     trees.paligemma(SIZES), column="bv")


def configure(**kwargs):
  config = tiny.get_config()
  config.model.update({k: v for k, v in SIZES.items() if k in config.model})
  config.prompt_ids = (2, 5)
  config.update(kwargs)
  return config


def test_paligemma_is_placed_and_the_rest_is_as_in_a_fresh_run(npz):
  config = configure(init_from=npz)
  model = build.model(config)
  shapes = steps.param_shapes(model)
  tx = build.optimizer(config, shapes)
  mesh = sharding.make_mesh({"data": 4, "fsdp": 2, "expert": 1})
  said = []
  state, carried = init_from.state(config, model, shapes, tx, mesh,
                                   init_from.source(config), said.append)
  fresh = steps.jit_once(lambda key: steps.init_params(model, key))(
      jax.random.key(config.seed))
  found, new = (blocks.flatten(jax.device_get(params))
                for params in (state.params, fresh))
  loaded = read.scan(npz, {"img": steps.param_shapes(model)["img"]},
                     allowed=read.Allowed(only="img/")).params
  for path, value in found.items():
    if path.startswith("img/"):
      np.testing.assert_array_equal(value, np.asarray(loaded[path]))
    elif not path.startswith("llm/"):
      np.testing.assert_array_equal(value, new[path])
  assert carried["llm"]["final_norm"]["scale"].shape == (16,)
  assert int(state.step) == 0
  assert any(line.startswith("loaded") for line in said)
  assert any(line.startswith("fresh") for line in said)


def test_a_source_is_looked_at_before_any_data(npz, tmp_path):
  init_from.source(configure(init_from=npz))
  init_from.source(configure(init_from=f"{npz}:img"))
  with pytest.raises(errors.CheckpointError, match="no weights at"):
    init_from.source(configure(init_from=str(tmp_path / "absent")))
  official = write.write(str(tmp_path / "x.pt"), trees.random_weights(
      trees.shapes(SIZES)))
  with pytest.raises(errors.CheckpointError, match="of stage 2"):
    init_from.source(configure(init_from=official, stage=2))
  with pytest.raises(errors.CheckpointError, match="model.horizon 4"):
    config = configure(init_from=official)
    config.model.horizon = 4
    init_from.source(config)
