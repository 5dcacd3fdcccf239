r"""The demo's model on four times the routes, whole ones, for longer.

python -m launch.train --config configs/mini.py --workdir runs/mini
python -m launch.train --config configs/mini.py:round=2 --workdir runs/again \
    --config.init_from=runs/mini
python -m launch.train --config configs/mini.py:stage=2 --workdir runs/mini2 \
    --config.init_from=runs/again
python -m launch.evaluate --workdir runs/mini2 --closed-loop

All fourteen scenario types of the embedded world, for two CPU cores; recorded
into WORKDIR/data first. In the second round the first one's model drives new
scenes, the expert takes over before its mistakes, and it learns on with these
routes beside the others (DAgger; docs/miniworld.md). The settings that are not
here are those of configs/tiny.py; arguments as there.
"""

from configs import tiny


def get_config(arg=None):
  parts = (arg or "").split(",")
  again = "round=2" in parts
  c = tiny.get_config(",".join(part for part in parts if part != "round=2"))
  second = c.stage == 2
  c.total_updates = 100 if second else 8000 if again else 4500
  if not second:
    c.optim.warmup_updates = 200
  c.optim.cycle_updates = c.total_updates + 50
  # Whole drives: the light, the sign and the car ahead come late in them.
  c.data.record.update(train_seeds=64, val_seeds=4, max_frames=200,
                       val_max_frames=200, handover_frames=36)
  if again:
    c.data.record.update(learner=True, first_seed=64, train_seeds=24,
                         val_seeds=0)
  # Eyes that learn from nothing, and see a lamp of one pixel wherever it is.
  # Such a model cannot be exported; with "patch" it can, and drives worse.
  c.model.vision_stem = "conv"
  # Frames before a handover have somebody else's plan, and those that go on
  # as before teach a car to go on as before.
  c.data.update(whole_past=True, keyframes=3.0)
  # Ten epochs of few scenes are learnt by heart otherwise.
  c.data.augment = True
  c.log_every, c.save_every = 50, 1000
  return c
