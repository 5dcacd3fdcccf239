"""Operation counts: the full size by its parts, and how they scale."""

import functools

import pytest

from drivemoe_jax import build
from drivemoe_jax.plan import flops
from launch import cli


@functools.cache
def model(name="configs/stage1.py", *overrides):
  return build.model(cli.load_config(name, overrides))


def test_full_size_with_three_and_with_seven_images():
  # By hand, three images: 2 x 768 tokens x 414.1 M weights + attention
  # 27 x 4 x 256^2 x 1152 x 3; language 2 x 788 x (17 x 110.1 M + 1.05 M), ...
  assert flops.forward(model(), "label") == pytest.approx(3.712e12, rel=1e-3)
  assert flops.forward(model("configs/stage2.py"), "straight_through") == (
      pytest.approx(4.593e12, rel=1e-3))
  assert flops.vision(model(), 3) == pytest.approx(0.661e12, rel=1e-3)
  assert flops.prefix(model())["language"] == pytest.approx(2.951e12, rel=1e-3)


def test_a_stem_of_convolutions_by_hand():
  # A patch of 12 pixels: 6 x 6 places of 27 x 16 weights, 3 x 3 of 144 x 32,
  # and a token of 3 x 3 x 32 numbers; without it a token of 12 x 12 x 3.
  conv = flops.vision(model("configs/mini.py"), 1)
  patch = flops.vision(model("configs/tiny.py"), 1)
  assert conv - patch == 4 * 2 * (36 * 27 * 16 + 9 * 144 * 32 + 288 * 64
                                  - 432 * 64)


@pytest.mark.parametrize("arg, choice, images", [
    ("", "label", 3), ("", "argmax", 3), ("", "straight_through", 7),
    ("views=front", "argmax", 2), ("views=front+back+back_left", "argmax", 4)])
def test_images_that_a_sample_encodes(arg, choice, images):
  name = f"configs/stage1.py:{arg}" if arg else "configs/stage1.py"
  assert flops.images_seen(model(name), choice) == images


def test_every_further_step_of_the_flow_costs_the_plan_alone():
  one, ten = (flops.forward(model(), steps=n) for n in (1, 10))
  assert ten - one == 9 * flops.action(model())


def test_the_plan_by_hand():
  # Ten tokens, 18 layers of 4.72 M attention weights; MLPs of 12.58 M: 14
  # dense ones and 3 + 1 experts in each of 4 layers.
  assert flops.action(model()) == 2 * 10 * (
      18 * 2 * 1024 * 256 * 9 + (14 + 4 * 4) * 3 * 1024 * 4096)


def test_experts_that_the_router_drops_cost_nothing():
  kept = flops.action(model())
  fewer = flops.action(model("configs/stage1.py", "--config.model.top_k=2"))
  m = model()
  # One expert's MLP, 3 x 1024 x 4096 weights, in four layers for ten tokens.
  assert kept - fewer == 2 * m.horizon * m.moe_layers * 3 * 1024 * 4096
