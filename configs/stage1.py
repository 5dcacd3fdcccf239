r"""Stage 1 of the released DriveMoE: every label teaches its router.

python -m launch.train --config configs/stage1.py --workdir runs/stage1 \
    --config.data.root=ROUTES --config.data.labels_root=LABELS \
    --config.init_from=paligemma.safetensors

225,348 windows x 12 epochs at batch 128 are 21,120 updates. The paper's
Table 3 by argument: `configs/stage1.py:views=front` (row 1),
`views=front+back` (rows 2-4, each view), `views=front+front_left+front_right`
(5), `...+back` (6), `...+back+back_right` (7), `supervision=none` (8), no
argument (9). Further: routing=token, skill=label, res=448, adaptive=adaLN-Zero.
"""

from configs import common


def get_config(arg=None):
  c, a = common.get_config(), common.parse(
      arg, views="dynamic", supervision="labels", routing="trajectory",
      skill="router", adaptive="", res=224)
  common.set_views(c, a.views)
  common.set_supervision(c, a.supervision)
  c.model.routing, c.skill_choice = a.routing, a.skill
  c.model.image_size = a.res
  c.model.adaptive = a.adaptive or None
  return c
