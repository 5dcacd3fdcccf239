"""Our image tower and language model against big_vision's own code.

Runs where a clone of big_vision is on PYTHONPATH (it cannot be installed): at
commit 0127fb6b337ee2a27bf4e54dea79cff176527356 or one that keeps these names.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax import golden
from drivemoe_jax.models import drivemoe, siglip
from drivemoe_jax.models import gemma as gemma_ours
from drivemoe_jax.weights import blocks, read, write
from tests.weights import trees

vit = pytest.importorskip("big_vision.models.vit")
gemma = pytest.importorskip("big_vision.models.ppp.gemma")
utils = pytest.importorskip("big_vision.utils")

SIZES = trees.ODD | dict(vocab_size=128, kv_heads=1)


@pytest.fixture(scope="module")
def weights():
  drawn = trees.paligemma(SIZES)
  small = jax.tree.map(lambda x: 0.3 * x, drawn.params)
  return read.Weights(small, {}, {}, drawn.carried, drawn.heads)


@pytest.fixture(scope="module")
def theirs(weights, tmp_path_factory):
  """Our npz through big_vision's own loader."""
  path = str(tmp_path_factory.mktemp("bv") / "x.npz")
  write.write(path, weights, column="bv")
  return utils.load_params(path)


def test_its_loader_reads_our_npz(weights, theirs):
  found, ours = blocks.flatten(theirs), blocks.flatten(weights.params)
  assert len(found) == 32
  for path, value in found.items():
    own = path.replace("llm/layers/", "llm/layers/dense/")
    want = (ours | weights.carried)[own]
    np.testing.assert_array_equal(value, want[:len(value)])


def test_its_image_tower_agrees(weights, theirs):
  s = types.SimpleNamespace(**SIZES)
  images = np.random.default_rng(0).uniform(
      -1, 1, (2, s.image_size, s.image_size, 3)).astype(np.float32)
  model = vit.Model(
      num_classes=s.vlm_width, width=s.vision_width, depth=s.vision_layers,
      mlp_dim=s.vision_mlp, num_heads=s.vision_heads, pool_type="none",
      patch_size=(s.patch_size, s.patch_size), scan=True, head_zeroinit=False)
  want, _ = model.apply({"params": theirs["img"]}, images, train=False)
  ours = siglip.Siglip(
      s.vision_width, s.vision_layers, s.vision_heads, s.vision_mlp,
      s.image_size, s.patch_size, s.vlm_width, 1e-6, jnp.float32, "none")
  got = ours.apply({"params": weights.params["img"]}, images)
  np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("softcap", [0.0, 50.0])
def test_its_language_model_agrees(weights, theirs, softcap):
  s = types.SimpleNamespace(**SIZES)
  rng = np.random.default_rng(1)
  x = rng.standard_normal((2, 9, s.vlm_width)).astype(np.float32)
  if softcap and "attn_logits_softcap" not in gemma.Model.__annotations__:
    pytest.skip("this big_vision has no soft cap")
  cap = {"attn_logits_softcap": softcap} if softcap else {}
  model = gemma.Model(
      variant="tiny", width=s.vlm_width, depth=s.layers, mlp_dim=s.vlm_mlp,
      num_heads=s.heads, num_kv_heads=s.kv_heads, head_dim=s.head_dim,
      norm_eps=1e-6, vocab_size=64, scan=True, **cap)
  _, out = model.apply(
      {"params": theirs["llm"]}, tokens=None, embedded_prefix=x,
      mask=jnp.ones((2, 9, 9), bool))
  ours = golden.language_layers(
      drivemoe.DriveMoE(**SIZES | trees.PI0), _split(weights.params, s.layers),
      x, softcap)
  norm = gemma_ours.Norm(1e-6, jnp.float32)
  got = norm.apply({"params": {"scale": weights.carried[read.CARRIED]}}, ours)
  np.testing.assert_allclose(got, out["pre_logits"], atol=2e-5, rtol=1e-4)


def _split(params, layers):
  """One scan group as the two that Drive-pi0 has."""
  dense = params["llm"]["layers"]["dense"]
  return {"llm": {"layers": {
      "dense": jax.tree.map(lambda x: x[:layers - 1], dense),
      "last": jax.tree.map(lambda x: x[layers - 1:], dense)}}}
