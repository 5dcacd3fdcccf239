"""The time that the arithmetic and the memory traffic alone would take.

Both ceilings are measured on the device, in the same library and type: the
best matrix product of a few shapes, and copying an array larger than any
cache. The floor of a program is the longer of the two for each of its phases;
phases wait for each other (a plan's prefix, then its steps).
"""

import time

from drivemoe_jax.plan import flops, traffic

SHAPES = ((788, 512, 2048), (1024, 1024, 1024), (2048, 2048, 2048))
GPU_SHAPES = ((8192, 8192, 8192),)  # less does not fill it
COPIED = 2**26                 # elements
TRIES = 8


class Ceilings:
  """Side of a race: measures, on a device of its own."""

  names = ("ceilings",)
  may_fail = ()

  def __init__(self, dtype):
    self._dtype = dtype

  def call(self, name, seed):
    import jax
    import jax.numpy as jnp
    del name, seed
    product = jax.jit(lambda a, b: jnp.dot(
        a, b, preferred_element_type=jnp.dtype(self._dtype)))
    # In place: memory that is new at every call would cost more than copying.
    copy = jax.jit(lambda a: a + jnp.ones((), a.dtype), donate_argnums=0)
    best, device = 0.0, jax.devices()[0]
    draw = lambda *shape: jax.random.normal(jax.random.key(0), shape,
                                            self._dtype)
    for m, k, n in SHAPES + (GPU_SHAPES if device.platform == "gpu" else ()):
      a, b = draw(m, k), draw(k, n)
      best = max(best, 2 * m * k * n / _fastest(product, a, b))
    held = [draw(COPIED)]
    size = 2 * held[0].nbytes

    def turn():
      held.append(copy(held.pop()))
      return held

    bandwidth = size / _fastest(turn)
    return 0.0, {"flops": best, "bandwidth": bandwidth,
                 "device": f"{device.platform}: {device.device_kind}"}


def _fastest(function, *args):
  import jax
  jax.block_until_ready(function(*args))
  times = []
  for _ in range(TRIES):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    times.append(time.perf_counter() - start)
  return min(times)


def phase_ms(ceilings, operations, size):
  """The longer of computing and moving [ms]."""
  return 1e3 * max(operations / ceilings["flops"],
                   size / ceilings["bandwidth"])


def plan(ceilings, model, batch, steps):
  """{"floor_ms", "flops", "bytes"} of sampling `batch` plans."""
  once = batch * flops.forward(model, steps=0)
  again = batch * flops.action(model)
  first = traffic.sampler_bytes(model, 0)
  step = traffic.sampler_bytes(model, 1) - first
  return {"floor_ms": phase_ms(ceilings, once, first)
          + steps * phase_ms(ceilings, again, step),
          "flops": once + steps * again, "bytes": first + steps * step}


def update(ceilings, model, batch, camera_choice, parameter_bytes):
  """The same of a training step: forward, twice that backward, the state read
  and written with both moments."""
  operations = 3 * batch * flops.forward(model, camera_choice)
  size = 2 * 3 * parameter_bytes
  return {"floor_ms": phase_ms(ceilings, operations, size),
          "flops": operations, "bytes": size}


def experts(ceilings, model, batch, width, touched):
  """The same of one expert layer, of which `touched` experts are read."""
  mlp = flops.expert_layer(model)["mlp"]
  operations = (2 * batch * model.horizon * mlp
                * (model.top_k + model.shared_experts))
  size = touched * mlp * width
  return {"floor_ms": phase_ms(ceilings, operations, size),
          "flops": operations, "bytes": size}
