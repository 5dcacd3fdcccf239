"""What may change when a run goes on, what must not, and what may if asked.

The rules compare with the newest checkpoint, which knows what it was trained
on. A change that was accepted is kept in all later ones, under "changes".
"""

import hashlib

import numpy as np

from data_pipeline import errors

# Settings that a resumed run may change: they alter no number of the training,
# or, like the data's place, are checked by what lies there.
FREE = ("log_every", "save_every", "keep_last", "keep_every", "keep_best",
        "wandb", "compile_cache", "mesh.", "per_device_batch", "model.remat",
        "model.expert_exchange", "dead_expert_updates", "loss_spike",
        "max_skipped",
        "host_memory_gb",
        "data.root", "data.labels", "data.val_list", "data.workers",
        "data.ram_budget_gb", "flow.steps", "flow.clip", "flow.noise_scale",
        "total_updates", "total_epochs")
# What --accept-change can name, and the settings that it covers.
ACCEPTABLE = {"data": ("data.",), "seed": ("seed",),
              "global_batch": ("global_batch",)}


def names(text):
  """"data,seed" -> ("data", "seed").

  Raises:
    ConfigError: a name that ACCEPTABLE lacks.
  """
  found = tuple(name for name in (text or "").split(",") if name)
  unknown = [name for name in found if name not in ACCEPTABLE]
  if unknown:
    raise errors.ConfigError(
        f"--accept-change {unknown[0]}: a run can go on with another "
        f"{', '.join(ACCEPTABLE)}; for anything else use another --workdir")
  return found


def fingerprint(train):
  """{"windows", "labels": digest} of training windows: a run's data version."""
  digest = lambda *arrays: hashlib.sha256(b"".join(
      np.ascontiguousarray(x).tobytes() for x in arrays)).hexdigest()[:16]
  labels = [x for x in (train.camera, train.skill) if x is not None]
  return {"windows": digest(np.array(train.routes), train.route_index,
                            train.frame, train.proprio, train.action),
          "labels": digest(*labels)}


def check_config(workdir, saved, now, accepted=()):
  """Refuses to go on with a run under another config.

  Args:
    saved, now: flat {"a.b": value} of the run there and of this one.
    accepted: names of ACCEPTABLE.

  Returns:
    [{"key", "from", "to"}] of what differs and was accepted.

  Raises:
    ResumeError: naming the first other key outside FREE whose values differ.
  """
  changes = []
  for key in [*now, *(k for k in saved if k not in now)]:
    old, new = saved.get(key, "absent"), now.get(key, "absent")
    if key.startswith(FREE) or old == new:
      continue
    name = next((name for name, keys in ACCEPTABLE.items()
                 if key.startswith(keys)), None)
    if name not in accepted:
      raise errors.ResumeError(
          f"{workdir} holds a run of another config: {key} is {old!r} there "
          f"and {new!r} here; use another --workdir, or go on with "
          f"--config.{key}={old}" + _or_accept(name))
    changes.append({"key": key, "from": old, "to": new})
  return changes


def check_data(workdir, saved, now, accepted=()):
  """Refuses to go on with other windows or labels than the run began with.

  Args:
    saved, now: {what: digest} of the data there and here.
    accepted, returns, raises: as in check_config.
  """
  changes = [{"key": f"data of {name}", "from": saved[name], "to": now[name]}
             for name in saved if saved[name] != now[name]]
  if changes and "data" not in accepted:
    first = changes[0]
    raise errors.ResumeError(
        f"{workdir} was trained on other {first['key'].split()[-1]}: digest "
        f"{first['from']} there, {first['to']} here; restore them or use "
        "another --workdir" + _or_accept("data"))
  return changes


def _or_accept(name):
  return f", or accept the change with --accept-change {name}" if name else ""


def recorded(meta, step, changes):
  """All changes that a run has seen: those in a checkpoint's meta, and now."""
  return meta.get("changes", []) + [{"step": step} | c for c in changes]


def line(start, batch, seed, rate, meta, now):
  """What a run says when it goes on.

  Args:
    start: updates done. batch: samples per update. rate: of the next update.
    meta: of the checkpoint; earlier versions do not tell what it was saved on.
    now: {"hosts": n, "devices": n} of this run.
  """
  saved = meta.get("saved_on", {})
  moved = [f"{what} {saved[what]} -> {now[what]} (allowed)" for what in now
           if saved.get(what, now[what]) != now[what]]
  return ", ".join([f"resume: step {start}", f"next sample {start * batch}",
                    f"seed {seed}", f"lr {rate:.1e}", *moved])


def told(step, changes):
  """Lines about accepted changes, one each."""
  return [f"accepted change at step {step}: {c['key']} {c['from']} -> "
          f"{c['to']}" for c in changes]
