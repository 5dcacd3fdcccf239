r"""A miniature of both stages in the embedded world, for two CPU cores.

python -m launch.train --config configs/tiny.py --workdir runs/tiny
python -m launch.train --config configs/tiny.py:stage=2 --workdir runs/tiny2 \
    --config.init_from=runs/tiny

Records its routes into WORKDIR/data when they are not there; a second stage
uses those of the run that it starts from. Minutes per stage.
Other arguments as in stage1.py, but `res`.
"""

from configs import stage1, stage2


def get_config(arg=None):
  parts = (arg or "").split(",")
  if any(part.startswith("res=") for part in parts):
    raise ValueError("res: this model sees 24 pixels; set model.image_size")
  second = "stage=2" in parts
  rest = ",".join(p for p in parts if p not in ("stage=1", "stage=2"))
  c = (stage2 if second else stage1).get_config(rest)
  c.model.update(
      # Few pixels: at this budget more routes and more updates teach more.
      vision_width=64, vision_layers=1, vision_heads=2, vision_mlp=192,
      image_size=24, patch_size=12, vlm_width=64, vlm_mlp=192,
      expert_width=64, expert_mlp=128, layers=3, heads=2, head_dim=32,
      moe_layers=2, vocab_size=64, text_len=6, dtype="float32", remat="none",
      rope_theta=100.0)  # so that 32 numbers tell ten positions apart
  c.prompt_ids = (2, 5, 6, 7)
  c.global_batch = c.per_device_batch = 48
  c.total_updates = 60 if second else 3000
  rate = 2e-4 if second else 2e-3
  c.optim.update(action_lr=2 * rate, vlm_lr=rate, min_lr=1e-6,
                 warmup_updates=50, cycle_updates=c.total_updates + 50)
  # Classes alike, and a twentieth of the routers' loss: with the release's
  # weights, meant for a pretrained model, it fills the clipped gradient.
  c.loss.camera_counts, c.loss.skill_counts = (1,) * 5, (1,) * 7
  c.loss.camera, c.loss.skill = c.loss.camera / 20, c.loss.skill / 20
  # A short training leaves much of a sample to chance; without any chance the
  # car, once it stands, stays where it is.
  c.flow.noise_scale = 0.5
  # Junctions here are taken at 7 m/s: 3 m aside in a second, twice the 99th
  # percentile, beyond which the release's limit of 1 lets no plan turn.
  c.flow.clip = 3.0
  c.mesh.fsdp = 1
  c.data.update(
      root="{data}/routes", labels_root="{data}",
      val_list="{data}/val_routes.txt", ram_budget_gb=1.0,
      workers=2, augment=False)  # in a few epochs it takes more than it gives
  # The routers need many scenes more than long ones.
  c.data.record = dict(scenarios=("all",), train_seeds=16, val_seeds=2,
                       width_px=160, height_px=90, max_frames=60,
                       val_max_frames=80)
  c.log_every, c.save_every, c.keep_last, c.keep_every = 10, 200, 2, 0
  return c
