"""Rules cover every parameter, sizes are checked before anything compiles."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from data_pipeline import errors
from drivemoe_jax import optim, sharding, step
from drivemoe_jax.models import drivemoe
from launch import cli


@functools.cache
def full_shapes(config="stage1", adaptive=None):
  c = cli.load_config(f"configs/{config}.py")
  kw = c.model.to_dict() | {"adaptive": adaptive, "dtype": jnp.bfloat16}
  return step.param_shapes(drivemoe.DriveMoE(**kw))


def sizes(data, fsdp, expert):
  return {"data": data, "fsdp": fsdp, "expert": expert}


@pytest.mark.parametrize("config, adaptive", [
    ("stage1", None), ("drive_pi0", None), ("stage1", "adaLN-Zero"),
    ("tiny", None), ("mid", None)])
@pytest.mark.parametrize("mesh", [
    (1, 16, 1), (16, 16, 1), (8, 8, 4), (1, 4, 2), (1, 1, 8), (8, 1, 1)])
def test_every_parameter_has_a_rule_that_divides(config, adaptive, mesh):
  specs = sharding.specs(full_shapes(config, adaptive), sizes(*mesh))
  assert all(isinstance(s, P) for s in jax.tree.leaves(
      specs, is_leaf=lambda x: isinstance(x, P)))


@pytest.mark.parametrize("mesh", [(1, 16, 1), (1, 8, 8), (1, 1, 8)])
def test_large_parameters_are_split_evenly(mesh):
  # What is replicated (camera router, norms, heads) is 23 M of 3.7 G.
  shapes = full_shapes()
  specs = sharding.specs(shapes, sizes(*mesh))
  total = held = 0
  for x, spec in zip(jax.tree.leaves(shapes), jax.tree.leaves(
      specs, is_leaf=lambda x: isinstance(x, P))):
    names = [n for axes in spec for n in (
        (axes,) if isinstance(axes, str) else axes or ())]
    parts = math.prod(sizes(*mesh)[n] for n in names)
    total += math.prod(x.shape)
    held += math.prod(x.shape) / parts
  pieces = math.prod(mesh[1:])
  assert held - total / pieces < 24e6


def test_experts_lie_on_the_expert_axis():
  assert sharding.spec_for("expert/action/layers/moe/moe/gating_einsum") == P(
      None, "expert", None, None, "fsdp")


def test_an_unknown_parameter_is_named():
  with pytest.raises(ValueError, match="'extra/w'; add one to sharding.RULES"):
    sharding.spec_for("extra/w")


def test_a_size_that_does_not_divide_is_named_with_its_axes():
  shapes = {"img": {"head": {"kernel": jax.ShapeDtypeStruct((6, 10), "f4")}}}
  with pytest.raises(errors.MeshError) as caught:
    sharding.specs(shapes, sizes(1, 2, 2))
  for part in ("E-MESH", "img/head/kernel (6, 10)", "10", "fsdp*expert = 4"):
    assert part in str(caught.value)


@pytest.mark.parametrize("mesh, words", [
    # 7 + 1 stacked experts
    ((1, 16, 3), r"moe/gating_einsum \(1, 8, .*: 8 is not divisible by expert "
     "= 3. Nearest legal: expert=2 or expert=4; on 48 devices: data="),
    # 257216 rows = 64 x 4019
    ((1, 128, 1), "257216 is not divisible by fsdp\\*expert = 128. Nearest "
     "legal: fsdp=64; on 128 devices: data=2, fsdp=64, expert=1"),
    ((2, 64, 2), "fsdp=32 or expert=1; on 256 devices: data=4, fsdp=32, "
     "expert=2"),
    # SigLIP's 1152 = 128 x 9
    ((1, 256, 1), "by fsdp\\*expert = 256. Nearest legal: fsdp=64"),
    ((1, 12, 1), "by fsdp = 12. Nearest legal: fsdp=8 or fsdp=16; on 12 "
     "devices: data=3, fsdp=4, expert=1")])
def test_the_nearest_legal_sizes_are_named_and_are_legal(mesh, words):
  with pytest.raises(errors.MeshError, match=words) as caught:
    sharding.specs(full_shapes(), sizes(*mesh))
  best = dict(re.findall(r"(\w+)=(\d+)", str(caught.value).split(":")[-1]))
  best = {axis: int(size) for axis, size in best.items()}
  assert math.prod(best.values()) == math.prod(mesh)
  sharding.specs(full_shapes(), best)


def test_optimiser_state_lies_as_its_parameters():
  shapes = full_shapes()
  mesh = sharding.make_mesh(sizes(1, 4, 2))
  places = sharding.infer(shapes, mesh)
  for options in ({}, {"skip_unused_experts": True}):
    tx = optim.make(shapes, action_lr=1.0, vlm_lr=1.0, **options)
    state = jax.eval_shape(tx.init, shapes)
    got = sharding.infer_state(state, shapes, mesh)
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(state))
    held = sum(math.prod(place.shard_shape(x.shape)) for x, place in zip(
        jax.tree.leaves(state), jax.tree.leaves(got)))
    assert held < total / 8 + 50e6  # twice the replicated 23 M parameters
  linear = places["expert"]["action"]["layers"]["moe"]["moe"]["linear"]
  assert linear.spec == P(None, "expert", "fsdp")


def test_adafactor_splits_its_momentum_and_replicates_its_factors():
  shapes = full_shapes()
  mesh = sharding.make_mesh(sizes(1, 4, 2))
  tx = optim.make(shapes, action_lr=1.0, vlm_lr=1.0, kind="adafactor")
  state = jax.eval_shape(tx.init, shapes)
  wanted = {x.shape for x in jax.tree.leaves(shapes)}
  places = jax.tree.leaves(sharding.infer_state(state, shapes, mesh))
  momentum = held = factors = 0
  for x, place in zip(jax.tree.leaves(state), places):
    assert x.shape in wanted or place.is_fully_replicated
    if x.dtype == jnp.bfloat16:
      momentum += math.prod(x.shape)
      held += math.prod(place.shard_shape(x.shape))
    elif x.shape not in wanted:
      factors += math.prod(x.shape)
  assert momentum > 3e9 and held < momentum / 8 + 24e6
  assert factors < 10e6  # a row and a column each: not worth splitting


def test_explain_adds_up():
  lines = sharding.explain(full_shapes(), sizes(1, 16, 1))
  # 3,678,807,160 parameters of 4 bytes
  assert "13.705 GiB in all, 0.9" in lines[-1]
  kernel = next(line for line in lines if line.startswith("img/head/kernel"))
  assert "0.56 MiB per device" in kernel  # 1152 x 2048 x 4 bytes / 16
  stack = next(line for line in lines if "layers/moe/moe/linear" in line)
  assert "(3, 8, 4096, 1024) P(None, 'expert', 'fsdp'): 24.00 MiB" in stack


def test_explain_counts_the_optimiser_where_it_is_told_of_one():
  shapes = full_shapes()
  bare = sharding.explain(shapes, sizes(1, 4, 4))
  tx = optim.make(shapes, action_lr=1.0, vlm_lr=1.0)
  lines = sharding.explain(shapes, sizes(1, 4, 4),
                           jax.eval_shape(tx.init, shapes))
  assert lines[:-1] == bare
  total = optim.optimiser_bytes(tx, shapes) / 2 ** 30
  said = re.fullmatch(r"optimiser: ([\d.]+) GiB in all, ([\d.]+) GiB per "
                      "device", lines[-1])
  all_of_it, held = map(float, said.groups())
  assert all_of_it == round(total, 3)
  assert total / 16 < held < total / 16 + 0.18  # two of the replicated 23 M


def test_activation_names_are_live_only_inside():
  mesh = sharding.make_mesh(sizes(2, 2, 2))

  def f(x):
    return nn.with_logical_constraint(x, ("batch", None))

  x = jnp.ones((8, 4))
  with sharding.activate(mesh):
    assert jax.jit(f)(x).sharding.spec == P(sharding.AXES)
  assert jax.jit(f)(x).sharding.is_fully_replicated
