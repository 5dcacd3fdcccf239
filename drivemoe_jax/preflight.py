"""Is a run on these hosts going to work? Asked before it starts.

The hosts have joined already (hosts.joined compared versions, code and
config); here they look at devices, mesh, batch, storage and memory. Every
finding is shared, so that all hosts end with the same words.
"""

import os
import secrets
import socket
import sys
import time

import jax

from data_pipeline import errors
from drivemoe_jax import build, hosts, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.plan import analytic

PROBE = "preflight_probe"
SEEN_WITHIN_S = 15  # a network file system may remember for a while


def run(config, workdir):
  """All checks; returns what was found as a JSON object.

  Raises:
    MeshError, ConfigError: sizes that do not fit the devices.
    HbmError: the state and batch alone are more than a device has; where only
      the estimated peak is, process 0 warns.
    StorageError, CheckpointError: a working directory that cannot be written,
      or that the hosts do not share.
  """
  device = jax.local_devices()[0]
  members = hosts.gather("members", {
      "host": socket.gethostname(), "devices": jax.local_device_count(),
      "kind": device.device_kind})
  sizes = build.mesh_sizes(config)
  hosts.check_mesh(sizes)
  pieces = build.microbatches(config, sizes)
  sharding.specs(steps.param_shapes(build.model(config)), sizes)
  seconds = probe(workdir)
  memory = analytic.memory(config, sizes)
  limit = (device.memory_stats() or {}).get("bytes_limit")
  _check_memory(memory, limit)
  return {"hosts": members, "devices": jax.device_count(), "mesh": sizes,
          "global_batch": config.global_batch, "microbatches": pieces,
          "storage": {"workdir": workdir, "seen_after_s": seconds},
          "memory": {"method": "analytic", "limit": limit, **memory}}


def _check_memory(memory, limit):
  """Refuses by what is exact, warns by what is an estimate."""
  if limit and memory["arguments"] > limit:
    raise errors.HbmError(
        f"a device must hold {memory['arguments'] / 2**30:.1f} GiB (state and "
        f"batch alone) and has {limit / 2**30:.1f}; use more devices or a "
        "larger mesh.fsdp; launch.plan tells by how much")
  if limit and memory["peak"] > limit and hosts.first():
    print(f"W-HBM: a device needs about {memory['peak'] / 2**30:.1f} GiB "
          f"(estimate, within a third) and has {limit / 2**30:.1f}; run "
          "launch.plan, which compiles, or lower per_device_batch or set "
          "model.remat to full", file=sys.stderr, flush=True)


def probe(workdir):
  """Process 0 writes a file, all see it, it goes away again.

  Returns:
    Seconds until the last process saw it.

  Raises:
    StorageError: process 0 cannot write. CheckpointError: not shared.
  """
  path = os.path.join(workdir, PROBE)
  token, fault = secrets.token_hex(8), None
  try:
    if hosts.first():
      try:
        os.makedirs(workdir, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
          file.write(token)
      except OSError as error:
        fault = f"{error.strerror or error}"
    token, fault = hosts.gather("probe written", [token, fault])[0]
    if fault:
      raise errors.StorageError(
          f"process 0 cannot write in {workdir}: {fault}; name a --workdir "
          "that every host can write")
    waits = hosts.gather("probe seen", _seen_after(path, token),
                         SEEN_WITHIN_S + 60)
  finally:
    if hosts.first() and os.path.exists(path):
      os.remove(path)
  blind = [str(i) for i, seconds in enumerate(waits) if seconds is None]
  if blind:
    raise errors.CheckpointError(
        f"{workdir} is not shared: process 0 wrote the probe, process "
        f"{', '.join(blind)} cannot see it; use a mount that all hosts share "
        "(Filestore, NFS, gcsfuse)")
  return max(waits)


def _seen_after(path, token):
  """Seconds until this process reads the token there; None is never."""
  start = time.monotonic()
  while time.monotonic() - start < SEEN_WITHIN_S:
    try:
      with open(path, encoding="utf-8") as file:
        if file.read() == token:
          return round(time.monotonic() - start, 3)
    except OSError:
      pass
    time.sleep(0.2)
  return None


def text(found):
  """The findings for a person."""
  memory, storage = found["memory"], found["storage"]
  limit = memory["limit"]
  return "\n".join([
      *(f"process {i}: {h['host']}, {h['devices']} x {h['kind']}"
        for i, h in enumerate(found["hosts"])),
      f"mesh     {found['mesh']} on {found['devices']} devices",
      f"batch    {found['global_batch']} in {found['microbatches']} "
      "microbatches",
      f"storage  {storage['workdir']} seen by all after "
      f"{storage['seen_after_s']:.1f} s",
      f"memory   about {memory['peak'] / 2**30:.2f} GiB per device (estimate: "
      f"{memory['arguments'] / 2**30:.2f} held, "
      f"{memory['temporaries'] / 2**30:.2f} at work)"
      + (f" of {limit / 2**30:.2f}" if limit else "")])
