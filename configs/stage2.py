r"""Stage 2 of the released DriveMoE: the plan also teaches the camera router.

python -m launch.train --config configs/stage2.py --workdir runs/stage2 \
    --config.data.root=ROUTES --config.data.labels_root=LABELS \
    --config.init_from=runs/stage1

Starts from all of stage 1, samples the view (straight-through Gumbel) and runs
10,560 updates at a tenth of the rate. Arguments as in stage1.py; fixed views
have no second stage.
"""

from configs import stage1


def get_config(arg=None):
  c = stage1.get_config(arg)
  if c.model.view != "dynamic":
    raise ValueError(f"stage 2 trains the camera router; {arg} has none")
  c.stage, c.camera_choice = 2, "straight_through"
  c.total_epochs = 6
  c.optim.action_lr = c.optim.vlm_lr = 5e-6
  c.optim.cycle_updates = 22500
  c.loss.camera, c.loss.skill = c.loss.camera / 2, 5.0
  c.init_from = "runs/stage1"
  return c
