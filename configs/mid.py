r"""A 72 M parameter model at full image and token counts, for timing on a CPU.

python -m launch.train --config configs/mid.py --dry-run

Vision 256 x 6 layers, language 512 x 8, experts 256; 788 tokens, as the
full-size model has.
"""

from configs import stage1


def get_config(arg=None):
  c = stage1.get_config(arg)
  c.model.update(
      vision_width=256, vision_layers=6, vision_heads=8, vision_mlp=1024,
      vlm_width=512, vlm_mlp=2048, expert_width=256, expert_mlp=1024, layers=8,
      head_dim=64, vocab_size=1024, dtype="float32", remat="none")
  c.prompt_ids = (2, 335, 517, 108)
  c.global_batch = c.per_device_batch = 4
  return c
