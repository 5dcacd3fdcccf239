r"""The demo's model on six times the routes, whole ones, for longer.

python -m launch.train --config configs/mini.py --workdir runs/mini
python -m launch.train --config configs/mini.py:stage=2 --workdir runs/mini2 \
    --config.init_from=runs/mini
python -m launch.evaluate --workdir runs/mini2 --closed-loop

All fourteen scenario types of the embedded world, for two CPU cores; recorded
into WORKDIR/data first. The settings that are not here are those of
configs/tiny.py; arguments as there.
"""

from configs import tiny


def get_config(arg=None):
  c = tiny.get_config(arg)
  second = c.stage == 2
  c.total_updates = 100 if second else 20000
  if not second:
    c.optim.warmup_updates = 200
  c.optim.cycle_updates = c.total_updates + 50
  # Whole drives: the light, the sign and the car ahead come late in them.
  c.data.record.update(train_seeds=96, val_seeds=4, max_frames=200,
                       val_max_frames=200, handover_frames=36)
  # Frames before a handover have somebody else's plan, and those that go on
  # as before teach a car to go on as before.
  c.data.update(whole_past=True, keyframes=3.0)
  c.log_every, c.save_every = 50, 1000
  return c
