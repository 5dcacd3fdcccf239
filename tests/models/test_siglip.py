"""The image tower's two beginnings; its layers are held against big_vision's
in tests/weights/test_big_vision.py and against the release's goldens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax.models import siglip


def embedding(kind, size, images):
  module = kind(8, size, jnp.float32)
  params = module.init(jax.random.key(0), images)
  n = images.shape[1] // size
  return module.apply(params, images).reshape(-1, n, n, 8)


@pytest.mark.parametrize("kind", [siglip.PatchEmbedding, siglip.ConvStem])
def test_an_image_moved_by_a_patch_has_its_tokens_moved(kind):
  images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
  moved = jnp.roll(images, (4, -4), (1, 2))
  here, there = (embedding(kind, 4, x)[:, 2:-2, 2:-2] for x in (images, moved))
  np.testing.assert_allclose(there[:, 1:, :-1], here[:, :-1, 1:], atol=1e-5)


def test_convolutions_overlap_and_patches_do_not():
  """Which tokens one pixel, beside the edge of its patch, changes."""
  images = jax.random.normal(jax.random.key(1), (1, 24, 24, 3))
  other = images.at[0, 11, 14].add(1.0)                  # patch 12 ends at 11
  changed = {
      kind: np.abs(embedding(kind, 12, other)
                   - embedding(kind, 12, images)).max(-1)[0] > 1e-6
      for kind in (siglip.PatchEmbedding, siglip.ConvStem)}
  np.testing.assert_array_equal(changed[siglip.PatchEmbedding],
                                [[False, True], [False, False]])
  np.testing.assert_array_equal(changed[siglip.ConvStem],
                                [[False, True], [False, True]])


def test_the_tower_has_as_many_tokens_with_either():
  images = jnp.zeros((2, 24, 24, 3), jnp.uint8)
  for stem in siglip.STEMS:
    tower = siglip.Siglip(8, 1, 2, 12, 24, 12, 10, 1e-6, jnp.float32, "none",
                          stem=stem)
    out, params = tower.init_with_output(jax.random.key(0), images)
    assert out.shape == (2, 4, 10)
    assert ("Conv_0" in params["params"]["embedding"]) == (stem == "conv")
