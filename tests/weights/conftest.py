"""Every kind of model at odd sizes, for what must hold for all of them."""

import pytest

from tests.weights import trees


@pytest.fixture(scope="session", params=[
    dict(), trees.PI0, dict(adaptive="adaLN"), dict(adaptive="adaLN-Zero"),
    trees.PI0 | dict(adaptive="adaLN"), dict(moe_layers=1), dict(view=(0, 3)),
    dict(moe_layers=4, shared_experts=1), dict(view=())],
    ids=["moe", "pi0", "adaln", "adaln_zero", "pi0_adaln", "one_moe_layer",
         "fixed_views", "one_dense_layer", "front_only"])
def odd(request):
  """(abstract tree, random weights) of one kind of model at odd sizes."""
  tree = trees.shapes(trees.ODD | request.param)
  return tree, trees.random_weights(tree)
