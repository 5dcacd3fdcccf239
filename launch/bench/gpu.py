"""Everything at full size, for one GPU: `bench gpu`. Never run so far.

The sampler with three views at batch 1 and 16, the same with one view, the
training step at batch 8 and the expert layer, each against PyTorch, in
bfloat16 with random weights. Meant to take less than ten minutes.
"""

import argparse

from launch.bench import experts, infer, rows, train

FULL = "configs/stage1.py"
RACES = (
    ("three views", infer, FULL, ["--batch-sizes", "1", "16"]),
    ("one view", infer, f"{FULL}:views=front", []),
    ("training", train, FULL, ["--batch-size", "8", "--runs", "10"]),
    ("experts", experts, FULL, []))


def add_arguments(parser):
  parser.add_argument("--runs", type=int, default=30,
                      help="timed calls of each program")


def run(args, say):
  """Returns {"rows": [...], "ok", "races": what each race found}."""
  found = {}
  for name, bench, config, more in RACES:
    say(f"bench: {name}")
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    asked = parser.parse_args(["--config", config, "--against", "pytorch",
                               "--runs", str(args.runs), *more])
    asked.overrides = []
    found[name] = bench.run(asked, say)
  return {"ok": True, "races": found, "machine": rows.machine(),
          "rows": [row | {"name": f"{name}: {row['name']}"}
                   for name, result in found.items()
                   for row in result["rows"]],
          "remarks": [line for result in found.values()
                      for line in result["remarks"]]}
