"""Rules cover every parameter, sizes are checked before anything compiles."""

import functools
import math

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


@pytest.mark.parametrize("asked, devices, want", [
    ((1, -1, 1), 16, (1, 16, 1)), ((-1, 4, 2), 8, (1, 4, 2)),
    ((2, 2, 2), 8, (2, 2, 2)), ((1, 1, 1), 8, (1, 1, 1))])
def test_minus_one_takes_what_is_left(asked, devices, want):
  assert sharding.resolve(*asked, devices) == sizes(*want)


@pytest.mark.parametrize("asked, devices", [
    ((1, 3, -1), 8), ((4, 4, 1), 8), ((-1, -1, 1), 8), ((0, 1, 1), 8)])
def test_a_mesh_that_does_not_fit_is_refused(asked, devices):
  with pytest.raises(errors.MeshError, match="E-MESH: mesh data"):
    sharding.resolve(*asked, devices)


def test_an_uneven_batch_names_the_numbers_and_the_nearest_legal():
  with pytest.raises(errors.MeshError) as caught:
    sharding.microbatches(19, 8, sizes(2, 2, 1))
  assert str(caught.value) == (
      "E-MESH: global_batch 19 is not divisible by data*fsdp*expert = 4. "
      "Nearest legal: 16 or 20.")
  with pytest.raises(errors.MeshError, match="Nearest legal: 4.$"):
    sharding.microbatches(3, 8, sizes(2, 2, 1))
  # 24 fits four devices, but not in whole microbatches of 4 each.
  with pytest.raises(errors.MeshError, match="per_device_batch = 4.*16 or 32"):
    sharding.microbatches(24, 4, sizes(2, 2, 1))


@pytest.mark.parametrize("batch, per_device, mesh, want", [
    (1024, 8, (1, 8, 1), 16), (128, 8, (1, 8, 1), 2), (128, 8, (1, 16, 1), 1),
    (32, 32, (1, 1, 1), 1), (16, 8, (8, 1, 1), 1)])
def test_microbatches_fill_what_a_device_holds(batch, per_device, mesh, want):
  assert sharding.microbatches(batch, per_device, sizes(*mesh)) == want


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


def test_factored_moments_are_replicated():
  shapes = full_shapes()
  mesh = sharding.make_mesh(sizes(1, 4, 2))
  tx = optim.make(shapes, action_lr=1.0, vlm_lr=1.0, kind="adafactor")
  state = jax.eval_shape(tx.init, shapes)
  wanted = {x.shape for x in jax.tree.leaves(shapes)}
  for x, place in zip(jax.tree.leaves(state), jax.tree.leaves(
      sharding.infer_state(state, shapes, mesh))):
    assert x.shape in wanted or place.is_fully_replicated


def test_explain_adds_up():
  lines = sharding.explain(full_shapes(), sizes(1, 16, 1))
  # 3,678,807,160 parameters of 4 bytes
  assert "13.705 GiB in all, 0.9" in lines[-1]
  kernel = next(line for line in lines if line.startswith("img/head/kernel"))
  assert "0.56 MiB per device" in kernel  # 1152 x 2048 x 4 bytes / 16


def test_activation_names_are_live_only_inside():
  mesh = sharding.make_mesh(sizes(2, 2, 2))

  def f(x):
    return nn.with_logical_constraint(x, ("batch", None))

  x = jnp.ones((8, 4))
  with sharding.activate(mesh):
    assert jax.jit(f)(x).sharding.spec == P(sharding.AXES)
  assert jax.jit(f)(x).sharding.is_fully_replicated


def test_the_mesh_is_auto_so_that_constraints_are_requests():
  mesh = sharding.make_mesh(sizes(2, 2, 1))
  assert mesh.devices.size == 4
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
