r"""DriveMoE for Bench2Drive's open-loop protocol: 21 waypoints reach 2.0 s.

python -m launch.train --config configs/open_loop.py --workdir runs/open_loop \
    --config.data.root=ROUTES --config.data.labels_root=LABELS \
    --config.init_from=paligemma.safetensors

The first waypoint is the present, so that the protocol's 2 s is index 20.
Arguments as in stage1.py; `stage=2` as stage2.py does it.
"""

from configs import stage1, stage2


def get_config(arg=None):
  parts = (arg or "").split(",")
  stage = stage2 if "stage=2" in parts else stage1
  rest = ",".join(p for p in parts if p not in ("stage=1", "stage=2"))
  c = stage.get_config(rest)
  c.model.horizon = 21
  if c.stage == 2:
    c.init_from = "runs/open_loop"
  return c
