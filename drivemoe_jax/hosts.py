"""Several hosts as one run: how they join, agree, wait and leave.

On one host every function here does nothing, or its one obvious thing, so the
callers have no second path. Every wait has a name and an end.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import re
import sys
import time
import traceback

import jax
from jax._src import clusters, distributed  # no public name gives these
from jax.experimental import multihost_utils

from configs import common
from data_pipeline import errors, masking
from drivemoe_jax import preemption, rendezvous

HEARTBEAT_S = 20  # of silence until a host counts as lost
COMPILE_S = 3600  # until a host must have compiled a program
LEAVE_S = 60  # until hosts that are done wait no more for the others
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint",
            "numpy", "ml-collections")
ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS",
               "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION")
BROKEN_LINK = re.compile(r"Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|[Hh]eartbeat"
                         r"|[Cc]onnection|[Ss]ocket|coordination")


def first():
  """Whether this is process 0, which logs and writes for all."""
  return jax.process_index() == 0


def own_words(say):
  """`say` on process 0; on others the host's log, which is standard error."""
  return say if first() else functools.partial(print, file=sys.stderr,
                                               flush=True)


@contextlib.contextmanager
def joined(place, config):
  """A run of several hosts, from the meeting to the farewell.

  Args:
    place: rendezvous.Place, without a coordinator to ask the surroundings;
      None is one host.
    config: ml_collections config; all hosts must have the same.

  Raises:
    PeerError: hosts that did not come, differ, or were lost.
    ConfigError: hosts with other configs.
  """
  if place is None:
    yield
    return
  end = time.monotonic() + place.timeout_s
  if not place.coordinator:
    place = detected(place.timeout_s)
  rendezvous.meet(place, facts(config))
  left = max(end - time.monotonic(), HEARTBEAT_S)
  jax.distributed.initialize(
      place.coordinator, place.processes, place.process_id,
      initialization_timeout=math.ceil(left),
      heartbeat_timeout_seconds=HEARTBEAT_S, shutdown_timeout_seconds=LEAVE_S,
      cluster_detection_method="deactivate")
  print(f"{rendezvous.GREETING}{place.process_id} of {place.processes} at "
        f"{place.coordinator}", file=sys.stderr, flush=True)
  try:
    agree("devices", {
        "kind": jax.local_devices()[0].device_kind,
        "count": jax.local_device_count()}, timeout_s=place.timeout_s)
    yield
  except errors.UserError:
    _leave_together()
    raise
  except jax.errors.JaxRuntimeError as error:
    _await_verdict(error)
    raise
  jax.distributed.shutdown()


def _leave_together():
  """Lets an error that all processes found be told by each of them.

  Process 0 goes last: without it the others would be aborted, and tell that.
  """
  try:
    distributed.global_state.client.wait_at_barrier("leave early", 5_000)
  except jax.errors.JaxRuntimeError:
    pass  # the others found no error
  if first():
    time.sleep(2)


def _await_verdict(error):
  """Waits after a broken link for jax to say which host was lost.

  That ends this process; the one that is lost would otherwise be named by
  nobody, and this one in its place.
  """
  if BROKEN_LINK.search(str(error)):
    traceback.print_exc()
    sys.stderr.flush()
    time.sleep(2 * HEARTBEAT_S)
    raise errors.PeerError(
        "a link to another host broke, and no host was found missing: "
        f"{str(error).splitlines()[0][:200]}; check the network and start the "
        "command on every host again") from error


def detected(timeout_s):
  """rendezvous.Place as the TPU VM, GKE or Slurm describes it."""
  address, count, index, _ = (
      clusters.ClusterEnv.auto_detect_unset_distributed_params(
          None, None, None, None, None, math.ceil(timeout_s)))
  if None in (address, count, index):
    raise errors.ConfigError(
        f"--distributed auto found no cluster (address {address}, processes "
        f"{count}, id {index}); give --coordinator, --processes and "
        "--process-id")
  return rendezvous.Place(address, count, index, timeout_s)


def facts(config):
  """What must be the same on every host, {group: {name: value}}."""
  return {"versions": {"python": sys.version.split()[0],
                       **{name: _version(name) for name in PACKAGES}},
          "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
          "code": code(),
          rendezvous.CONFIG: common.flatten(
              masking.mask(config.to_dict()))}


def code():
  """{file: digest} of this program's sources."""
  root = pathlib.Path(__file__).resolve().parent.parent
  paths = [path for package in ("configs", "data_pipeline", "drivemoe_jax",
                                "launch")
           for path in sorted((root / package).rglob("*.py"))]
  return {str(path.relative_to(root)):
          hashlib.sha256(path.read_bytes()).hexdigest()[:8] for path in paths}


def _version(name):
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def barrier(name, timeout_s):
  """Waits until all processes are here; each name is used once in a run.

  Raises:
    PeerError: naming the processes that did not come.
  """
  if jax.process_count() == 1:
    return
  try:
    distributed.global_state.client.wait_at_barrier(
        name, int(timeout_s * 1000))
  except jax.errors.JaxRuntimeError as error:
    if "DEADLINE_EXCEEDED" not in str(error):
      raise
    found = re.search(r"timed out task names:(.*?)\n\n", str(error), re.DOTALL)
    late = rendezvous.process_ids(found.group(1)) if found else []
    raise errors.PeerError(
        f"process {jax.process_index()} waited {timeout_s:g} s for the others "
        f"at {name!r}; not there: {', '.join(map(str, late)) or 'unknown'}. "
        "See their logs") from error


def gather(name, value, timeout_s=60):
  """Every process's `value` (JSON), by process id; `name` as in barrier."""
  if jax.process_count() == 1:
    return [value]
  client = distributed.global_state.client
  client.key_value_set(f"{name}/{jax.process_index()}", json.dumps(value))
  barrier(name, timeout_s)
  return [json.loads(client.blocking_key_value_get(f"{name}/{i}", 10_000))
          for i in range(jax.process_count())]


def agree(what, values, timeout_s=60):
  """Stops all processes unless {name: value} is the same on each.

  Raises:
    PeerError: naming the processes and both values.
  """
  found = gather(f"agree on {what}", values, timeout_s)
  rendezvous.compare([{what: v} for v in found])


@contextlib.contextmanager
def first_goes_ahead(name, timeout_s):
  """Process 0 does the block alone; the others follow when it is through."""
  if not first():
    barrier(name, timeout_s)
  yield
  if first():
    barrier(name, timeout_s)


def in_step(name, jitted):
  """The jitted function, first run when all processes have compiled it.

  A host that compiles longer than the others then keeps them at a barrier
  that names it, not inside a collective that gives up (CPU: after 30 s).
  """
  if jax.process_count() == 1:
    return jitted
  compiled = False

  def call(*args):
    nonlocal compiled
    if not compiled:
      jitted.lower(*args).compile()  # jitted itself will find it
      barrier(f"compiled {name}", COMPILE_S)
      compiled = True
    return jitted(*args)

  return call


class Stop:
  """SIGTERM, the notice that a machine is going away, on whichever host.

  The hosts agree on the update after which they all stop: jax passes the
  notice on and picks a step that none has passed yet. One host alone leaves
  at once if no update was done, and else after the one under way.
  """

  def __enter__(self):
    if jax.process_count() == 1:  # else jax takes the signal
      self._notice = preemption.Notice().__enter__()
    return self

  def after(self, step):
    """Whether to stop after `step`; call it once for every step."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._notice.asked()

  def __exit__(self, *_):
    if jax.process_count() == 1:
      self._notice.__exit__()


def check_mesh(sizes):
  """Refuses a mesh that leaves devices of some hosts without work."""
  used, there = math.prod(sizes.values()), jax.device_count()
  if jax.process_count() > 1 and used != there:
    raise errors.MeshError(
        f"mesh data*fsdp*expert = {used}, but the {jax.process_count()} hosts "
        f"have {there} devices; use all of them")
