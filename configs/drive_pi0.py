r"""Drive-pi0, the paper's baseline: front camera, no experts, no routers.

python -m launch.train --config configs/drive_pi0.py --workdir runs/pi0 \
    --config.data.root=ROUTES --config.init_from=paligemma.safetensors

12 epochs at batch 1024 are 2,640 updates. Row 1 of Table 3, which has the
experts, is configs/stage1.py:views=front.
"""

from configs import common


def get_config(arg=None):
  c = common.get_config()
  common.parse(arg)
  common.set_views(c, "front")
  c.model.moe_layers = 0
  c.loss.skill, c.data.labels_root = 0.0, ""  # there is no router to teach
  c.global_batch, c.optim.cycle_updates = 1024, 10_000_000
  return c
