r"""All seven skills of the embedded world, for two CPU cores or a GPU.

python -m launch.train --config configs/mini.py --workdir runs/mini
python -m launch.train --config configs/mini.py:stage=2 --workdir runs/mini2 \
    --config.init_from=runs/mini
python -m launch.evaluate --workdir runs/mini2 --closed-loop

Records all fourteen scenario types into WORKDIR/data first. Larger than
configs/tiny.py, whose other settings it keeps; arguments as there. Sized for 40
minutes on two cores by what an update of tiny takes; not timed as a whole.
"""

from configs import tiny


def get_config(arg=None):
  c = tiny.get_config(arg)
  c.model.update(
      vision_width=96, vision_layers=4, vision_heads=3, vision_mlp=288,
      vlm_width=96, vlm_mlp=288, expert_width=96,
      expert_mlp=192, heads=3)
  second = c.stage == 2
  c.total_updates = 100 if second else 1500
  rate = 1e-4 if second else 1e-3
  c.optim.update(action_lr=2 * rate, vlm_lr=rate,
                 cycle_updates=c.total_updates + 50)
  c.data.ram_budget_gb = 4.0  # of images; less reads some anew each time
  c.data.record = dict(scenarios=("all",), train_seeds=20, val_seeds=4,
                       width_px=256, height_px=144, max_frames=90,
                       handovers=True)
  c.save_every = 100
  return c
