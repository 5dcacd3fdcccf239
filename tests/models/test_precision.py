"""Weights on their way to a product: cast, brought together, once per layer.

Read from the lowered program, before any compiler had its say.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax import sharding, step
from drivemoe_jax.models import precision
from tests.models import tiny

CONSTRAINT = re.compile(
    r"sdy\.sharding_constraint %\w+ <@\w+, \[(.*)\]> : tensor<(.*)x(\w+)>")


def lowered(function, *args):
  mesh = sharding.make_mesh({"data": 1, "fsdp": 2, "expert": 1})
  with sharding.activate(mesh):
    return jax.jit(function).lower(*args).as_text()


def constraints(text):
  """[(dims, shape, dtype)] of every constraint in a program."""
  return [(dims, tuple(map(int, shape.split("x"))), dtype)
          for dims, shape, dtype in CONSTRAINT.findall(text)]


def test_the_cast_comes_before_the_gather_and_no_gradient_is_gathered():
  w = jnp.ones((4, 6), jnp.float32)
  use = lambda w: jnp.sum(precision.gathered(w, jnp.bfloat16) ** 2)
  found = constraints(lowered(jax.grad(use), w))
  assert found == [("{}, {}", (4, 6), "bf16")]
  grad = jax.grad(use)(w)
  assert grad.dtype == jnp.float32
  np.testing.assert_array_equal(grad, 2 * w)


@pytest.mark.parametrize("layer", [
    precision.dense(6, jnp.bfloat16),
    precision.dense((2, 3), jnp.bfloat16, axis=-1)])
def test_dense_gathers_its_kernel_narrow(layer):
  x = jnp.ones((2, 4), jnp.bfloat16)
  params = layer.init(jax.random.key(0), x)
  assert params["params"]["kernel"].dtype == jnp.float32
  (dims, shape, dtype), = constraints(lowered(layer.apply, params, x))
  assert not set(dims) - set("{}, ") and dtype == "bf16"
  assert shape == params["params"]["kernel"].shape


def test_every_split_weight_is_gathered_in_the_compute_dtype():
  model = tiny.model(dtype=jnp.bfloat16, remat="full")
  shapes = step.param_shapes(model)
  inputs = {k: v for k, v in tiny.inputs(model).items() if k != "gumbel"}
  found = constraints(lowered(lambda p: model.apply(
      {"params": p}, camera_choice="label", **inputs)[0], shapes))
  seen = {(shape, dtype) for _, shape, dtype in found}
  for path, x in jax.tree_util.tree_leaves_with_path(shapes):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not any(sharding.spec_for(name)):
      continue
    stacked = re.search(r"layers/|encoderblock", name)
    shape = x.shape[1:] if stacked else x.shape
    assert (shape, "f32") not in seen, name
    unused = re.search(r"embedder|llm/layers/last/(attn/attn_vec|mlp)", name)
    assert unused or (shape, "bf16") in seen, name
  table = shapes["llm"]["embedder"]["input_embedding"].shape
  assert (table, "bf16") not in seen


@pytest.mark.parametrize("equation, shape", [
    ("btd,gdf->gbtf", (2, 3, 8)), ("btd,egdf->gebtf", (4, 2, 3, 8)),
    ("btd,ndh->btnh", (4, 3, 8)), ("btd,ckdh->cbtkh", (2, 2, 3, 8))])
@pytest.mark.parametrize("tokens", [1, 5])  # 8 columns lie between
def test_a_stack_of_weights_is_one_product_or_many(equation, shape, tokens):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, tokens, 3), np.float32)
  w = rng.standard_normal(shape, np.float32)
  got = precision.stacked(equation, x, w, dtype=jnp.float32)
  np.testing.assert_allclose(got, np.einsum(equation, x, w), atol=1e-5)
