"""A child of `launch.ablate`: asks a trained run what only its plans can tell.

Writes RUN/probe.json: the time of a plan, the memory that planning takes, and
plans sampled in the two-mode scene.
"""

import json
import os
import sys
import time

import numpy as np

from data_pipeline import errors, writing
from data_pipeline.miniworld import recorder
from drivemoe_jax import build, policy
from drivemoe_jax.evaluators.ablation import modes
from launch import closed_loop
from launch.bench import rows

WARMUP, PLANS = 2, 20


def probe(workdir, scenes, samples):
  """Everything that probe.json says."""
  run = build.load_run(workdir)
  # Modes are a question about what the model would sample.
  planner = policy.Policy.of_run(run, noise_scale=1.0)
  record = run.config.data.record
  planner.warmup()
  size = (record.width_px, record.height_px) if record else closed_loop.SIZE
  found = latency(planner)
  peak = rows.memory()
  plans = [sampled(planner, one, samples, size)
           for seed in modes.seeds(scenes) if (one := modes.scene(seed))]
  if not plans:
    raise errors.ConfigError(f"none of {scenes} two-mode scenes has a fork; "
                             "ask for more --scenes")
  return {"latency_ms": found, "planning_bytes": max(peak, rows.memory()),
          "modes": plans}


def latency(planner):
  """Milliseconds of one plan, alone: median and spread."""
  times = []
  for number in range(WARMUP + PLANS):
    observation = planner.example(number)
    start = time.perf_counter()
    planner.plan([observation])
    times.append(1e3 * (time.perf_counter() - start))
  low, median, high = np.percentile(times[WARMUP:], (5, 50, 95))
  return {"median": float(median), "p5": float(low), "p95": float(high)}


def sampled(planner, scene, samples, size):
  """Plans [K,H,2] m of a scene, each from other noise, and where they end."""
  observation = modes.observe(scene["seed"], scene["tick"],
                              planner.metadata["image_size"],
                              recorder.QUALITY, size)
  plans = np.stack([planner.plan([dict(observation, step=i)])[0]["actions"]
                    for i in range(samples)])
  tell = lambda value: np.round(np.asarray(value, float), 3).tolist()
  return {"seed": scene["seed"], "tick": scene["tick"],
          **{key: tell(scene[key]) for key in ("left", "right", "works")},
          "plans": tell(plans),
          "shares": modes.shares(plans, scene["left"], scene["right"])}


if __name__ == "__main__":
  folder, *counts = sys.argv[1:]
  try:
    writing.put(os.path.join(folder, "probe.json"),
                json.dumps(probe(folder, *map(int, counts))))
  except errors.UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.status)
