"""Raw rows as they come out, with scores made up by a rule."""

import numpy as np

from data_pipeline.miniworld import names
from drivemoe_jax.evaluators.ablation import modes, variants

EPISODES = [(kind, 20000 + seed) for seed in range(2) for kind in names.TYPES]


def score(row, kind, seed):
  """60 for Drive-pi0, 70 for the rest, and what seed and scene add."""
  base = 60.0 if row.variant.name == "pi0" else 70.0
  return base + row.seed + names.TYPES.index(kind) % 3 + seed % 2


def part(row, name):
  """What a step of the row gives: a name of row.Maker's."""
  return {"_train": train, "_evaluate": evaluate, "_drive": drive,
          "_probe": probe}[name](row)


def train(row):
  return {"training_bytes": 1_500_000_000, "training_seconds": 61.5}


def evaluate(row):
  router = None if row.variant.name == "pi0" else {
      "n": 8, "accuracy": 0.75, "macro_f1": 0.5}
  return {"open_loop": {"n": 8, "ade": 0.2, "fde": 0.4, "per_skill": {}},
          "routers": {"camera": router, "skill": router}}


def drive(row):
  told = lambda value: {"value": value, "low": value - 1, "high": value + 1}
  drives = [[kind, seed, score(row, kind, seed), row.seed == 0]
            for kind, seed in EPISODES]
  whole = {"driving_score": told(float(np.mean([d[2] for d in drives]))),
           "success_rate": told(100.0 * (row.seed == 0)),
           "completion": 100.0, "infractions": {}}
  return {"closed_loop": whole | {"per_skill": {"merging": whole}},
          "yardsticks": {"still": whole | {"per_skill": {}}},
          "episodes": drives}


def probe(row):
  left = np.stack([np.arange(10.0), np.linspace(0, -1.5, 10)], -1)
  right = left * [1, -1]
  plans = np.stack([left, right, (left + right) / 2, right])
  return {"latency_ms": {"median": 12.5, "p5": 12.0, "p95": 14.0},
          "planning_bytes": 900_000_000,
          "modes": [{"seed": 20000, "tick": 20, "left": left.tolist(),
                     "right": right.tolist(), "works": [16.0, 0.0],
                     "plans": plans.tolist(),
                     "shares": modes.shares(plans, left, right)}]}


def row(name):
  """A whole raw row."""
  found = next(r for r in variants.rows() if r.name == name)
  return {
      "variant": found.variant.name, "seed": found.seed, "commit": "c0ffee",
      "settings": {"episodes": 28, "minutes": 10.0, "updates": None},
      "budget": {"updates": 9}, "config_sha256": "ab" * 32, "device": "CPU",
      "updates": 9, "samples_seen": 36,
      **{key: value for step in ("_train", "_evaluate", "_drive", "_probe")
         for key, value in part(found, step).items()}}
