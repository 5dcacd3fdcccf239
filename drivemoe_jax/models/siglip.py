"""SigLIP image tower with PaliGemma's projector (big_vision's names and axes).

Axes: B images, S pixels, C channels, N patches, W vision width, D language
width.
"""

import flax.linen as nn
import jax.numpy as jnp

from drivemoe_jax.models import attention, precision

STEMS = ("patch", "conv")
REDUCED = 4  # times fewer cells to a side after the convolutions of a stem


def patches(images, size):
  """Cuts images into rows of patches: [B,S,S,C] -> [B,N,size*size*C]."""
  b, s, _, c = images.shape
  n = s // size
  cut = images.reshape(b, n, size, n, size, c).transpose(0, 1, 3, 2, 4, 5)
  return cut.reshape(b, n * n, size * size * c)


class PatchEmbedding(nn.Module):
  """A convolution whose stride is its kernel: one product per patch."""

  width: int
  patch_size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images):                            # [B,S,S,C] -> [B,N,W]
    p = self.patch_size
    init = nn.initializers.lecun_normal(in_axis=(0, 1, 2))
    kernel = self.param("kernel", init, (p, p, images.shape[-1], self.width))
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    kernel = precision.gathered(kernel, self.dtype).reshape(-1, self.width)  # pyright: ignore[reportAttributeAccessIssue]
    x = precision.einsum("bnp,pw->bnw", patches(images, p), kernel,
                         dtype=self.dtype)
    return x + bias.astype(self.dtype)


class ConvStem(nn.Module):
  """Two convolutions that overlap, then as many patches as without them.

  What a tower that is not pretrained cannot learn from little data: that a
  thing is the same thing a pixel on (early convolutions, Xiao et al., NeurIPS
  2021). Not in the release.
  """

  width: int
  patch_size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images):                            # [B,S,S,3] -> [B,N,W]
    x = images
    for channels in (self.width // 4, self.width // 2):
      x = nn.gelu(precision.conv(channels, (3, 3), self.dtype, strides=2,
                                 padding=1)(x), approximate=True)
    return PatchEmbedding(self.width, self.patch_size // REDUCED, self.dtype,
                          name="patches")(x)


class MlpBlock(nn.Module):
  """Two products around a tanh-approximated GELU, as PaliGemma has it."""

  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):                                 # [B,N,W] -> [B,N,W]
    h = precision.dense(self.hidden, self.dtype, name="Dense_0")(x)
    h = nn.gelu(h, approximate=True)
    return precision.dense(x.shape[-1], self.dtype, name="Dense_1")(h)


class Attention(nn.Module):
  """Self-attention with the parameters of nn.MultiHeadDotProductAttention."""

  heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):                                 # [B,N,W] -> [B,N,W]
    width = x.shape[-1]
    head = lambda name: precision.dense(
        (self.heads, width // self.heads), self.dtype, axis=-1, name=name)(x)
    x = attention.attend(head("query"), head("key"), head("value"))
    return precision.dense(width, self.dtype, axis=(-2, -1), name="out")(x)


class EncoderBlock(nn.Module):
  """Pre-norm transformer layer; returns (x, None) so that it can be scanned."""

  heads: int
  mlp: int
  norm_eps: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):                                 # [B,N,W] -> [B,N,W]
    norm = lambda name: precision.layer_norm(self.norm_eps, self.dtype,
                                             name=name)
    x = x + Attention(self.heads, self.dtype,
                      name="MultiHeadDotProductAttention_0")(
                          norm("LayerNorm_0")(x))
    x = nn.with_logical_constraint(x, ("batch", None, None))
    x = x + MlpBlock(self.mlp, self.dtype, name="MlpBlock_0")(
        norm("LayerNorm_1")(x))
    return nn.with_logical_constraint(x, ("batch", None, None)), None


class Encoder(nn.Module):
  """The stack of layers and the final norm."""

  layers: int
  heads: int
  mlp: int
  norm_eps: float
  dtype: jnp.dtype
  remat: str
  unroll: bool

  @nn.compact
  def __call__(self, x):                                 # [B,N,W] -> [B,N,W]
    stack = precision.scan_layers(EncoderBlock, self.layers, self.remat,
                                  unroll=self.unroll)
    x, _ = stack(self.heads, self.mlp, self.norm_eps, self.dtype,
                 name="encoderblock")(x)
    return precision.layer_norm(self.norm_eps, self.dtype,
                                name="encoder_norm")(x)


class Siglip(nn.Module):
  """Images to language-width tokens; every image is encoded by itself.

  `__call__`: [B,S,S,3], uint8 or float in [-1,1] -> [B,N,D]. No pooling head.
  `stem`: "patch" as released, or "conv", see ConvStem.
  """

  width: int
  layers: int
  heads: int
  mlp: int
  image_size: int
  patch_size: int
  out_width: int
  norm_eps: float
  dtype: jnp.dtype
  remat: str
  unroll: bool = False
  stem: str = "patch"

  @nn.compact
  def __call__(self, images):
    if images.dtype == jnp.uint8:
      images = (images.astype(jnp.float32) / 255.0 - 0.5) / 0.5
    embedding = ConvStem if self.stem == "conv" else PatchEmbedding
    x = embedding(self.width, self.patch_size, self.dtype,
                  name="embedding")(images)              # [B,N,W]
    tokens = (self.image_size // self.patch_size) ** 2
    position = self.param("pos_embedding", nn.initializers.normal(0.02),
                          (1, tokens, self.width))
    x = x + position.astype(self.dtype)
    x = Encoder(self.layers, self.heads, self.mlp, self.norm_eps, self.dtype,
                self.remat, self.unroll, name="Transformer")(x)
    self.sow("intermediates", "vision_features", x)
    x = precision.dense(self.out_width, self.dtype, name="head")(x)
    self.sow("intermediates", "projected", x)
    return x
