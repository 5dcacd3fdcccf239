"""What to try when a run does not fit, and about what it would save.

The savings are differences of the analytic model, so nothing is compiled.
"""

import math

from data_pipeline import errors
from drivemoe_jax.plan import analytic


def suggest(config, request, sizes, chip):
  """The three changes that save most: [{"change", "saves_bytes" per chip}].

  Args:
    config: as prepared for the request. sizes: of the mesh. chip: Chip.
  """
  if request.what == "sample":
    need = lambda c, batch: analytic.sampler_memory(c, batch)["peak"]
    batch = request.batch_per_chip
    tried = [(f"batch-per-chip {batch // 2}", config, batch // 2)
             ] if batch > 1 else []
    tried.append(("model.dtype=bfloat16", _with(
        config, "model.dtype", "bfloat16"), batch))
    now = need(config, batch)
  else:
    need = lambda c, mesh: analytic.memory(c, mesh)["peak"]
    tried, now = _training(config, sizes), need(config, sizes)
  found = []
  for change, *arguments in tried:
    try:
      saved = (now - need(*arguments)) * (
          chip.devices if request.what == "train" else 1)
    except errors.MeshError:  # does not divide
      continue
    if saved > 0:
      found.append({"change": change, "saves_bytes": saved})
  return sorted(found, key=lambda t: -t["saves_bytes"])[:3]


def _training(config, sizes):
  """[(change, config, mesh)] that a train step could try."""
  tried = []
  piece = config.per_device_batch
  if piece > 1 and piece % 2 == 0:
    tried.append((f"config.per_device_batch={piece // 2} in microbatches",
                  _with(config, "per_device_batch", piece // 2), sizes))
  if config.model.remat != "full":
    tried.append(("config.model.remat=full",
                  _with(config, "model.remat", "full"), sizes))
  wider = sizes | {"fsdp": 2 * sizes["fsdp"]}
  if sizes["data"] % 2 == 0:
    wider["data"] = sizes["data"] // 2
    tried.append((f"fsdp={wider['fsdp']} data={wider['data']}", config, wider))
  else:
    more = _with(config, "global_batch", 2 * config.global_batch)
    tried.append((f"fsdp={wider['fsdp']} on {math.prod(wider.values())} "
                  "devices", more, wider))
  if config.optim.kind == "adamw":
    tried += [
        ("config.optim.first_moment_dtype=bfloat16",
         _with(config, "optim.first_moment_dtype", "bfloat16"), sizes),
        ("config.optim.kind=adafactor",
         _with(config, "optim.kind", "adafactor"), sizes)]
  return tried


def _with(config, key, value):
  """A copy of the config with one key changed."""
  changed = config.copy_and_resolve_references().unlock()
  *parents, leaf = key.split(".")
  part = changed
  for name in parents:
    part = part[name]
  part[leaf] = value
  return changed.lock()
