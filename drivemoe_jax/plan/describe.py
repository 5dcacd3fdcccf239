"""The plan of a run on a TPU slice: memory, traffic, time, as one dict.

Keys as docs/plan.md states them; what an estimate cannot know is None.
"""

import dataclasses
import math

import jax

from data_pipeline import errors, spec
from drivemoe_jax import build, optim, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.plan import (
  analytic,
  checks,
  chips,
  compiled,
  flops,
  hlo,
  remedies,
  shapes,
  traffic,
)

UNKNOWN = ("collectives", "estimated_cycles", "estimated_ms", "estimated_mfu",
           "compile_seconds", "loops", "gathers", "weight_copies", "refused",
           "bound_ms", "fits", "suggestions", "across_slices")


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked.

  Attributes:
    topology: "v5e:4x4". slices: of that shape, joined by the data centre
      network. mesh: sizes of the axes that are stated; the others are the
      config's.
    batch_per_chip: samples, None for 8 of a train step and 1 of a sampler.
    keep_microbatches: cut the batch as config.per_device_batch says.
    what: "train" or "sample", which runs on one chip of the slice.
    analytic: arithmetic only, even where a compiler is installed.
  """

  topology: str
  mesh: dict
  batch_per_chip: int | None = None
  keep_microbatches: bool = False
  what: str = "train"
  slices: int = 1
  analytic: bool = False


def prepare(config, request):
  """(config of the planned run, Request, Chip, mesh sizes); all divides.

  Raises:
    ConfigError: no such topology. MeshError: mesh or batch do not divide.
  """
  chip, count = chips.parse(request.topology)
  train = request.what == "train"
  count = count * request.slices if train else 1
  devices = count * chip.devices if train else 1
  batch = request.batch_per_chip
  batch = (8 if train else 1) if batch is None else batch
  c = config.copy_and_resolve_references().unlock()
  c.mesh.update(request.mesh if train else
                dict.fromkeys(sharding.AXES, 1) | {"preset": ""})
  sizes = build.mesh_sizes(c, devices)
  used = math.prod(sizes.values())
  if used != devices:
    raise errors.MeshError(
        f"mesh {sizes} takes {used} of the {devices} devices of "
        f"{request.slices} x {request.topology}; a slice runs as a whole")
  if batch < 1 or train and batch % chip.devices:
    raise errors.MeshError(
        f"batch-per-chip {batch} must be a multiple of the {chip.devices} "
        "devices of a chip")
  c.global_batch = batch * count
  if not (request.keep_microbatches and train):
    c.per_device_batch = c.global_batch // devices
  for key, counts in (("camera_counts", spec.CAMERA_COUNTS),
                      ("skill_counts", spec.SKILL_COUNTS)):
    c.loss[key] = c.loss[key] or counts  # those of the data, same shapes
  build.microbatches(c, sizes)
  sharding.specs(steps.param_shapes(build.model(c)), sizes)
  return (c.lock(), dataclasses.replace(request, batch_per_chip=batch), chip,
          sizes)


def describe(config, request, say=lambda result: None, keep_text=None):
  """The plan.

  Args:
    config: of the run; batch and mesh come from the request.
    say: called with the dict as soon as its memory is known, which is minutes
      before the rest.
    keep_text: called with the text of the compiled program.

  Raises:
    ConfigError, MeshError: as `prepare`.
  """
  config, request, chip, sizes = prepare(config, request)
  result = frame(config, chip, sizes, request)
  if result["method"] == "analytic":
    memory = (analytic.memory(config, sizes) if request.what == "train" else
              analytic.sampler_memory(config, request.batch_per_chip))
    return _add_memory(result, memory, chip, config, request, say)
  found = compiled.devices(request.topology, request.slices)
  lowered = (compiled.lower_train_step(config, sizes, found)
             if request.what == "train" else
             compiled.lower_sampler(config, request.batch_per_chip, found[0]))
  program, result["compile_seconds"] = compiled.compile_timed(lowered)
  if isinstance(program, dict):  # refused: it needs more than there is
    return _add_memory(result, program, chip, config, request, say)
  _add_memory(result, compiled.memory(program), chip, config, request, say)
  try:
    program = program.as_text()
  except jax.errors.JaxRuntimeError as error:
    result["refused"] = (
        f"libtpu {result['libtpu']} cannot print the program; install the "
        f"version that jax names (docs/plan.md): {str(error).splitlines()[0]}")
    return result
  if keep_text:
    keep_text(program)
  add_program(result, hlo.read(program), config, chip, request)
  return result


def frame(config, chip, sizes, request):
  """What is known before anything is estimated."""
  model, libtpu = build.model(config), compiled.libtpu_version()
  train = request.what == "train"
  work = flops.forward(model, config.camera_choice if train else "argmax",
                       1 if train else config.flow.steps)
  known = {
      "method": "analytic" if request.analytic or not libtpu else "compiled",
      "libtpu": libtpu, "what": request.what, "topology": request.topology,
      "slices": request.slices, "mesh": sizes,
      "chips": chips.parse(request.topology)[1] * request.slices,
      "devices_per_chip": chip.devices,
      "batch_per_chip": request.batch_per_chip,
      "microbatches": build.microbatches(config, sizes) if train else 1,
      "remat": model.remat, "clock_ghz": chip.clock_ghz,
      "model_flops_per_sample": work,
      "ideal_ms": 1e3 * (3 if train else 1) * work * request.batch_per_chip
                  / chip.peak_flops,
      "trained_bf16_bytes": 2 * optim.num_trainable(
          steps.param_shapes(model), config.optim.freeze_last_value)}
  return known | dict.fromkeys(UNKNOWN)


def _add_memory(result, memory, chip, config, request, say):
  """Per chip, from bytes per device; where it does not fit, what to try."""
  each = {name: None if size is None else size * chip.devices
          for name, size in memory.items()}
  result["bytes_per_chip"] = {
      name: each[name] for name in ("arguments", "temporaries", "peak")}
  result["bytes_per_chip"]["hbm"] = chip.hbm_bytes
  result["fits"] = each["peak"] <= chip.hbm_bytes
  result["suggestions"] = [] if result["fits"] else remedies.suggest(
      config, request, result["mesh"], chip)
  say(result)
  return result


def _per_chip(moves, chip):
  """hlo.by_kind, whose bytes are per device, for a chip."""
  return {kind: entry | {"bytes": entry["bytes"] * chip.devices}
          for kind, entry in hlo.by_kind(moves).items()}


def add_program(result, program, config, chip, request):
  """What the compiled text tells; refused where a loop's count is unknown."""
  model, train = build.model(config), request.what == "train"
  result["loops"] = program.loops
  if program.unresolved:
    result["refused"] = (
        f"the trip counts of {', '.join(program.unresolved)} are not in the "
        "program: no total of cycles or bytes can be trusted")
    return
  seconds = program.cycles / (chip.clock_ghz * 1e9)
  result |= {
      "estimated_cycles": program.cycles,
      "estimated_ms": 1e3 * seconds,
      "estimated_mfu": result["ideal_ms"] / (1e3 * seconds),
      "collectives": _per_chip(program.collectives, chip),
      "across_slices": _per_chip(program.across, chip),
      "bound_ms": {
          "compute": result["ideal_ms"],
          "bytes": 1e3 / chip.bandwidth * (
              traffic.train_bytes(result["bytes_per_chip"]) if train else
              traffic.sampler_bytes(model, config.flow.steps))}}
  if train:
    result["gathers"] = checks.gathers(
        program, steps.param_shapes(model), model, result["mesh"])
  else:
    result["weight_copies"] = checks.weight_copies(program,
                                                   shapes.serving(model))
