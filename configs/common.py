"""Defaults of every experiment (the full-size DriveMoE) and argument strings.

A config file is short: it takes `get_config()` and says what differs. `model`
holds the attributes of models.drivemoe.DriveMoE; drivemoe_jax/build.py builds
what computes from the rest, datasets.py what feeds it. Units are in the names
or beside them.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VIEWS = ("front_left", "front_right", "back", "back_left", "back_right")
# Bench2Drive: training windows per class, for the focal weights.
CAMERA_COUNTS = (35105, 8865, 161717, 13671, 5990)
SKILL_COUNTS = (13304, 1036, 29921, 12064, 5200, 45332, 118491)


def get_config(arg=None):
  """DriveMoE with PaliGemma-3B, as released; the base of every other file."""
  parse(arg)
  c = ConfigDict()
  c.stage = 1
  c.seed = 0
  c.model = dict(
      vision_width=1152, vision_layers=27, vision_heads=16, vision_mlp=4304,
      image_size=224, patch_size=14, vlm_width=2048, vlm_mlp=16384,
      expert_width=1024, expert_mlp=4096, layers=18, heads=8, kv_heads=1,
      head_dim=256, moe_layers=4, skill_experts=7, shared_experts=1, top_k=3,
      vocab_size=257216, text_len=20, num_views=5, view="dynamic",
      camera_heads=8, camera_hidden=128, camera_dropout=0.1,
      view_embedding_index="argmax", history=5, horizon=10, proprio_dim=10,
      action_dim=2, routing="trajectory", time_width=256,
      vision_norm_eps=1e-6, rms_norm_eps=1e-6, rope_theta=10000.0,
      softcap=50.0, remat="full",
      vision_stem="patch",                 # patch | conv: not in the release
      adaptive=placeholder(str),           # adaLN | adaLN-Zero
      expert_exchange="constraint",        # constraint | shard_map
      dtype="bfloat16")                    # of matrix products; the rest is f32
  c.prompt_ids = (2, 33475, 51725, 108)    # bos predict trajectory newline
  c.camera_choice = "label"                # label | straight_through | argmax
  c.skill_choice = "router"                # router | label
  c.loss = dict(action=1.0, camera=10.0, skill=10.0, gamma=2.0,
                skill_level="mean",        # mean | per_token
                camera_counts=CAMERA_COUNTS, skill_counts=SKILL_COUNTS)
  c.flow = dict(sigma_min=1e-3, time_sampling="beta", steps=10, clip=1.0,
                noise_scale=1.0)           # of a plan's start; 0: no chance
  c.optim = dict(
      kind="adamw",                        # adamw | adafactor
      action_lr=5e-5, vlm_lr=5e-5, min_lr=1e-8, warmup_updates=200,
      cycle_updates=45000, clip_norm=1.0, first_moment_dtype="float32",
      freeze_last_value=True, skip_unused_experts=False)
  c.global_batch = 128
  c.per_device_batch = placeholder(int)    # default: the preset's, or 8
  c.total_epochs = 12
  c.total_updates = placeholder(int)       # instead of total_epochs
  # A slice such as v5e-16 or 2xv5e-256, see docs/sharding.md. What is stated
  # below wins over the preset; -1: all devices that are left.
  c.mesh = dict(preset="", data=placeholder(int), fsdp=placeholder(int),
                expert=placeholder(int))   # without a preset: 1, -1, 1
  c.data = dict(
      root="data/bench2drive", labels_root="data/labels",
      val_list="data_pipeline/splits/bench2drive_base_val.txt",
      val_fraction=0.05,                   # where there is no val_list
      statistics="",                       # file | official; empty: computed
      whole_past=False,                    # no window whose past is padded
      skill_balance=0.0,                   # 1: all skills equally often
      keyframes=0.0,                       # 3: surprising windows more often
      augment=True, on_bad_record="fail", skip_cap=0.001, ram_budget_gb=8.0,
      workers=8,
      official_parity=False,               # sets all below as the release's
      wrap_theta=True, nan_heading="box", drop_current_point=False,
      tf_shared_seed=False, eval_augment=False, statistics_any_horizon=False,
      record=ConfigDict())                 # the embedded world's, if any
  c.init_from = placeholder(str)           # workdir[@STEP] or file, [:prefix]
  c.init_missing, c.init_extra = "", ""    # regexes: leaves fresh, keys unused
  c.log_every, c.save_every = 10, 500
  c.keep_last, c.keep_every = 3, 5000
  c.keep_best = "min:loss"                 # or max:METRIC; mean between saves
  c.max_skipped = 20                       # non-finite updates in a row
  c.dead_expert_updates = 200              # without a pick: warn; 0: off
  c.loss_spike = 5.0                       # times the usual: warn; 0: off
  c.host_memory_gb = 0.0                   # of a process; 0: all there is
  c.wandb = False
  c.compile_cache = ""                     # folder of compiled programs
  return c


def flatten(config, prefix=""):
  """ConfigDict or dict -> {"a.b": value}; empty parts are left out."""
  flat = {}
  for key, value in config.items():
    if hasattr(value, "items"):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def parse(arg, **known):
  """Splits "views=front+back,res=448" by the defaults' names and types.

  Raises:
    ValueError: a name that this config does not know, or a bad value.
  """
  found = dict(known)
  for part in (arg or "").split(","):
    if not part:
      continue
    name, equals, text = part.partition("=")
    if not equals or name not in known:
      raise ValueError(f"config argument {part!r}; known: "
                       + ", ".join(f"{k}={v}" for k, v in known.items()))
    kind = type(known[name])
    try:
      found[name] = kind(text)
    except ValueError:
      raise ValueError(f"config argument {part!r}: {kind.__name__} wanted, "
                       f"such as {name}={known[name]}") from None
  return ConfigDict(found)


def set_views(c, views):
  """Which cameras the model sees: the rows of the paper's Table 3.

  Args:
    c: config, changed in place.
    views: "dynamic" (the router picks one), or "front" and further names of
      VIEWS joined by "+".
  """
  if views == "dynamic":
    return
  first, *rest = views.split("+")
  unknown = [name for name in rest if name not in VIEWS]
  if first != "front" or unknown:
    raise ValueError(f"views={views}: write dynamic, or front and any of "
                     f"{', '.join(VIEWS)}, joined by +")
  with c.model.ignore_type():
    c.model.view = tuple(VIEWS.index(name) for name in rest)
  c.camera_choice, c.loss.camera = "argmax", 0.0


def set_supervision(c, supervision):
  """"labels" teaches the camera router, "none" leaves it to the plan's loss."""
  if supervision == "none":
    c.camera_choice, c.loss.camera = "straight_through", 0.0
  elif supervision != "labels":
    raise ValueError(f"supervision={supervision}: write labels or none")
