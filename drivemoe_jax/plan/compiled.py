"""Compiles the real programs of a run for TPU devices that are not there.

Only shapes go in: nothing is computed and no parameter is ever held. The train
step and the sampler are built exactly as training and the policy build them.
"""

import importlib.metadata
import importlib.util
import re
import time

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from data_pipeline import errors
from drivemoe_jax import build, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.evaluators import predict
from drivemoe_jax.plan import shapes


def libtpu_version():
  """Version of the installed TPU compiler, or None."""
  if importlib.util.find_spec("libtpu") is None:
    return None
  return importlib.metadata.version("libtpu")


def devices(topology, slices):
  """Devices of a slice, as the compiler sees them."""
  # A host has four chips, which a slice of one does not fill.
  single = set(topology.partition(":")[2].split("x")) == {"1"}
  bounds = {"chips_per_host_bounds": (1, 1, 1)} if single else {}
  try:
    found = topologies.get_topology_desc(topology, platform="tpu",
                                         num_slices=slices, **bounds)
  except jax.errors.JaxRuntimeError as error:
    raise errors.ConfigError(
        f"libtpu {libtpu_version()} does not know {slices} x {topology}: "
        f"{str(error).splitlines()[0]}") from None
  return found.devices


def lower_train_step(config, sizes, found):
  """The train step of train.py for a mesh over these devices, lowered."""
  model = build.model(config)
  tx, state = shapes.state(config)
  mesh = sharding.make_mesh(sizes, devices=found)
  shardings = sharding.infer_state(state, steps.param_shapes(model), mesh)
  step = steps.jit_train_step(
      build.train_step(config, model, tx, sizes, shardings.params), mesh,
      shardings)
  batch, key = shapes.batch(model, config.global_batch), shapes.key()
  with sharding.activate(mesh):
    return step.lower(state, batch, key)


def lower_sampler(config, batch, device):
  """The sampler of policy.py on one device, lowered."""
  model = build.model(config)
  inputs = shapes.batch(model, batch)
  place = SingleDeviceSharding(device)
  put = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=place), tree)
  ids = jax.ShapeDtypeStruct((batch,), "uint32", sharding=place)
  sample = predict.sample_program(
      model, steps=config.flow.steps, clip=config.flow.clip,
      noise_scale=config.flow.noise_scale, seed=config.seed)
  return sample.lower(put(shapes.serving(model)),
                      put({name: inputs[name] for name in predict.INPUTS}),
                      ids)


def compile_timed(lowered):
  """(compiled program or the memory that it lacks, seconds).

  Returns:
    A program that does not fit comes back as a dict, see out_of_memory.
  """
  start = time.monotonic()
  try:
    result = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    result = out_of_memory(str(error))
    if result is None:
      raise
  return result, time.monotonic() - start


UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = r"([\d.]+)([KMGT]?)"


def out_of_memory(message):
  """Memory, as `memory`, of a program that the compiler refused; else None.

  Temporaries alone may be too much, then nothing else is known.
  """
  def size(pattern):
    found = re.search(pattern, message)
    return found and int(float(found.group(1)) * UNITS[found.group(2)])

  used = size(rf"Used {SIZE}B? of [\d.]+[KMGT]?B? hbm")
  alone = size(rf"required for HLO temporaries \({SIZE}")
  if not used and not alone:
    return None
  return {"arguments": size(rf"arguments +{SIZE}"), "temporaries": alone,
          "peak": used or alone}


def memory(program):
  """{"arguments", "temporaries", "peak"} in bytes per device."""
  m = program.memory_analysis()
  return {"arguments": m.argument_size_in_bytes,
          "temporaries": m.temp_size_in_bytes,
          "peak": m.peak_memory_in_bytes}
