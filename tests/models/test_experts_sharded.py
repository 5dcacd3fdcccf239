"""Experts on several devices: the same numbers, whoever holds them."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from drivemoe_jax import sharding
from drivemoe_jax.models import experts, precision, routers

# No size but the number of experts is 8, so that it shows in a program's text.
LAYERS, B, T, D, F, E = 2, 24, 5, 10, 12, 8
IDLE = 1  # a skill expert that nobody picks
# Expert axis, routed groups (plans or tokens), shared experts.
CASES = ((2, 1, 0), (4, T, 1), (8, 1, 2))
MORE = ((2, T, 1), (4, 1, 2), (8, T, 0), (8, 1, 1), (2, 1, 2), (4, T, 0))


class Layer(nn.Module):
  exchange: str

  @nn.compact
  def __call__(self, x, weights):
    bank = experts.ExpertBank(E, F, jnp.float32, self.exchange, name="moe")
    return x + bank(jnp.tanh(x), weights), None


class Net(nn.Module):
  """As in the model: scanned, rematerialised layers of shared weights."""

  exchange: str

  @nn.compact
  def __call__(self, x, weights):
    layers = precision.scan_layers(Layer, LAYERS, "full", (nn.broadcast,))
    return layers(self.exchange, name="layers")(x, weights)[0]


def loss(params, x, logits, groups, shared, exchange):
  weights = routers.expert_weights(
      logits[:, :groups, :E - shared], top_k=3, moe_layers=LAYERS,
      shared=shared)
  y = Net(exchange).apply({"params": params}, x, weights)
  return (y ** 2).sum(), y


@functools.cache
def inputs():
  x = jax.random.normal(jax.random.key(0), (B, T, D))
  logits = jax.random.normal(jax.random.key(1), (B, T, E)).at[..., IDLE].set(
      -9.0)
  params = Net("constraint").init(jax.random.key(2), x, jnp.ones((B, 1, E)))
  return params["params"], x, logits


def program(groups, shared, exchange, **kwargs):
  return jax.jit(functools.partial(
      jax.value_and_grad(loss, (0, 1, 2), has_aux=True), groups=groups,
      shared=shared, exchange=exchange), **kwargs)


@functools.cache
def alone(groups, shared):
  """What one device computes."""
  return program(groups, shared, "constraint")(*inputs())


@functools.cache
def together(expert, groups, shared, exchange):
  """(text of the program, what it computes) on eight devices."""
  fsdp = min(2, 8 // expert)
  mesh = sharding.make_mesh(
      {"data": 8 // expert // fsdp, "fsdp": fsdp, "expert": expert})
  place = lambda spec: NamedSharding(mesh, spec)
  params = {"layers": {"moe": {
      name: place(sharding.spec_for(f"expert/action/layers/moe/moe/{name}"))
      for name in ("gating_einsum", "linear")}}}
  args = (params, place(sharding.BATCH), place(sharding.BATCH))
  values = jax.device_put(inputs(), args)
  with sharding.activate(mesh):
    found = program(groups, shared, exchange, in_shardings=args,
                    out_shardings=((place(P()), args[1]), args)).lower(
                        *values).compile()
    return found.as_text(), found(*values)


def cases(test):
  """Every exchange on every case, most of them only when time allows."""
  slow = [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]
  exchange = pytest.mark.parametrize("exchange", experts.EXCHANGES)
  return exchange(pytest.mark.parametrize("expert, groups, shared",
                                          [*CASES, *slow])(test))


@cases
def test_outputs_and_gradients_are_those_of_one_device(
    expert, groups, shared, exchange):
  got = together(expert, groups, shared, exchange)[1]
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(alone(groups, shared)),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * jnp.abs(b).max())
  for leaf in jax.tree.leaves(got[1][0]):
    assert not leaf[:, IDLE].any()  # nobody sent it a token: exactly zero
    assert leaf[:, -1].any()


def shapes_of(text, kind):
  """Result shapes of a collective in a program's text."""
  lines = re.findall(rf"= (\S.*?) {kind}(?:-start)?\(", text)
  return [tuple(map(int, dims.split(","))) for line in lines
          for dims in re.findall(r"\w+\[([\d,]+)\]", line)]


@cases
def test_nothing_with_an_expert_axis_is_gathered(
    expert, groups, shared, exchange):
  text = together(expert, groups, shared, exchange)[0]
  gathered = shapes_of(text, "all-gather")
  assert gathered and not [shape for shape in gathered if E in shape]
  tokens = [shape for shape in shapes_of(text, "all-to-all")
            if shape[-2:] == (T, D)]
  assert bool(tokens) == (exchange == "shard_map")


def test_gradients_are_scattered_before_copies_are_summed():
  text = together(*CASES[0], "shard_map")[0]
  held = F // 2  # fsdp
  summed = [shape for shape in shapes_of(text, "all-reduce")
            if E // 2 in shape]
  assert summed and all(held in shape and F not in shape for shape in summed)


@pytest.mark.parametrize("devices", [1, 4])
def test_without_an_expert_axis_there_is_nothing_to_exchange(devices):
  params, x, logits = inputs()
  weights = jax.nn.softmax(logits)
  mesh = sharding.make_mesh({"data": devices, "fsdp": 1, "expert": 1})
  apply = lambda exchange: str(jax.make_jaxpr(Net(exchange).apply)(
      {"params": params}, x, weights))
  assert "shard_map" not in apply("shard_map")  # no mesh at all
  with sharding.activate(mesh):
    assert "shard_map" not in apply("shard_map")
