"""Everything at full size, for one GPU: `bench gpu`.

The sampler with three views at batch 1 and 16, the same with one view, the
expert layer and the training step, each against PyTorch, in bfloat16 with
random weights. It is made for less than ten minutes: all programs are compiled
at once, those of a group then take turns, and a line tells of each group as
soon as it has raced.
"""

import argparse
import os
import tempfile

from launch.bench import experts, infer, inputs, race, speed, train

# XLA tunes its own Triton products one by one, which takes minutes.
FLAGS = "--xla_gpu_enable_triton_gemm=false"
REMAT = "dots"  # of the training step; there is memory for it
# name: benchmark, argument of the config, further arguments
RACES = {
    "three views": (infer, "", []),
    "many plans": (infer, "", ["--batch-sizes", "16"]),
    "one view": (infer, ":views=front", []),
    "experts": (experts, "", []),
    "training": (train, "", ["--batch-size", "16"])}
# A training step needs most of the memory, so each has the device to itself.
GROUPS = (
    {"three views": ("jax", "jax apart", "eager", "compiled"),
     "many plans": ("jax apart", "eager"),
     "one view": ("jax apart", "eager"), "experts": ("jax", "eager")},
    {"training": ("jax",)},
    {"training": ("eager",)})


def add_arguments(parser):
  parser.add_argument("--config", default="configs/stage1.py", metavar="FILE",
                      help="whose model; override with --config.key=value")
  parser.add_argument("--runs", type=int, default=30,
                      help="timed calls of each program")


def run(args, say):
  """Returns {"rows": [...], "ok", "machine", "ceilings", ...}."""
  os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"
  asked = {name: _asked(args, *about) for name, about in RACES.items()}
  speed.check(asked["training"])
  made = {name: RACES[name][0].race(arguments)
          for name, arguments in asked.items()}
  made["training"].config.model.remat = REMAT
  result = speed.describe(asked["training"]) | {
      "dtype": made["training"].config.model.dtype, "rows": [], "remarks": []}
  with tempfile.TemporaryDirectory(prefix="bench_") as folder:
    path = os.path.join(folder, "weights.safetensors")
    say("bench: writing random weights")
    inputs.export(made["three views"].config, path)
    threads = asked["training"].threads
    ceilings = speed.measure_ceilings(result["dtype"], threads, say)
    result["remarks"].append(speed.remark(ceilings))
    groups = [{(name, side): made[name].makers(path)[side]
               for name, sides in group.items() for side in sides}
              for group in GROUPS]
    known = {name: {} for name in RACES}
    for found in race.run_in_groups(groups, args.runs, threads, say):
      for name in RACES:
        mine = {(side, program): value
                for ((race_name, side), program), value in found.items()
                if race_name == name}
        known[name] |= mine
        for row in speed.make_rows(mine, made[name], ceilings):
          say(f"bench: {name}: {row['name']}: {row['median_ms']:.1f} ms")
  different = []
  for name, found in known.items():
    different += [f"{name}: {line}" for line in speed.differences(
        found, speed.TOLERANCE[result["dtype"]])]
    result["remarks"] += [f"{name}: {line}" for line in speed.left_out(found)]
    result["rows"] += [row | {"name": f"{name}: {row['name']}"}
                       for row in speed.make_rows(found, made[name], ceilings)]
  return result | {"ok": not different, "ceilings": ceilings,
                   "remarks": result["remarks"] + different}


def _asked(args, bench, argument, more):
  parser = argparse.ArgumentParser()
  bench.add_arguments(parser)
  asked = parser.parse_args([
      "--config", args.config + argument, "--against", "pytorch",
      "--runs", str(args.runs), *more])
  asked.overrides = args.overrides
  return asked
