r"""DriveMoE on nuScenes: without labels, both routers learn from the plan.

python -m launch.import_nuscenes --root NUSCENES --out data/nuscenes
python -m launch.train --config configs/nuscenes.py --workdir runs/nuscenes \
    --config.init_from=paligemma.safetensors

Arguments as in stage1.py, but `supervision`. One stage: the view is sampled
from the start, as the release does in its second one.
"""

from configs import stage1


def get_config(arg=None):
  if "supervision=" in (arg or ""):
    raise ValueError("supervision: there are no labels")
  c = stage1.get_config(",".join(filter(None, [arg, "supervision=none"])))
  c.loss.skill = 0.0
  c.data.root, c.data.labels_root = "data/nuscenes", ""
  c.data.val_list = "data/nuscenes/val_routes.txt"
  return c
