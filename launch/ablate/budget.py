"""How many updates every row gets: WORKDIR/budget.json.

Equal means equal in updates, and so in samples seen and in the schedule of the
rate; a row that was cut off by the clock would be compared with one further
down its cosine. The number is what the slowest variant makes in the minutes:
the two with the most images are trained for a few updates, and timed.
"""

import json
import os
import shutil

from data_pipeline import errors, reading, writing
from drivemoe_jax.evaluators.ablation import store, variants
from launch.ablate import children

TRIAL, SKIPPED = 16, 6  # updates of a trial; those that still warm up
WARMUP = 50          # updates of a rising rate, at most a tenth of all


def find(workdir, settings, device, command, say):
  """The number of updates; measured once, then read.

  Args:
    workdir: of the comparison. settings: {minutes, config} that it is for.
    device: what was measured on. command: (row, updates, run folder) -> flags
      of launch.train. say: prints a line.

  Raises:
    DataError: it was measured for other settings.
  """
  path = os.path.join(workdir, "budget.json")
  if os.path.exists(path):
    known = reading.json_file(path, "remove it to measure anew")
    store.check(path, known["settings"], settings)
    return known
  seconds = {}
  for variant in variants.HEAVIEST:
    say(f"budget: timing {TRIAL} updates of {variant.name}")
    folder = os.path.join(workdir, "trials", variant.name)
    shutil.rmtree(folder, ignore_errors=True)  # else it is finished: no times
    os.makedirs(folder)
    children.run("launch.train", *command(
        variants.Row(variant, variants.SEEDS[0]), TRIAL, folder),
        "--config.log_every=1", log=os.path.join(folder, "log.txt"))
    seconds[variant.name] = per_update(folder)
  updates = count(settings["minutes"], seconds.values())
  found = {"settings": settings, "updates": updates, "device": device,
           "seconds_per_update": seconds}
  writing.put(path, json.dumps(found, indent=1) + "\n")
  say(f"budget: {updates} updates for every row, {max(seconds.values()):.2f} s "
      "each at most")
  return found


def count(minutes, seconds):
  """Updates that fit into the minutes at the slowest of these rates.

  Raises:
    ConfigError: not even a tenth of a schedule fits.
  """
  updates = int(60 * minutes / max(seconds))
  if updates < 2:
    raise errors.ConfigError(
        f"--minutes {minutes:g} are {updates} updates of {max(seconds):.2f} s; "
        "a row needs two or more")
  return updates


def per_update(folder):
  """Median seconds of an update in a trial's log, the first left out."""
  steps = [line["step_seconds"] for line in logged(folder)
           if line["step"] > SKIPPED]
  return sorted(steps)[len(steps) // 2]


def training_seconds(folder):
  """Seconds that a run's updates took, what was done twice left out."""
  total, before = 0.0, 0
  for line in logged(folder):
    total += line["step_seconds"] * (line["step"] - before)
    before = line["step"]
  return total


def logged(folder):
  """Lines of a run's metrics.jsonl."""
  path = os.path.join(folder, "metrics.jsonl")
  text = reading.content(path, "remove the run's folder and start again")
  return [json.loads(line) for line in text.decode().splitlines()]


def schedule(updates):
  """Overrides of a schedule whose rate is low at the last update."""
  rise = min(WARMUP, updates // 10 + 1)
  return [f"--config.total_updates={updates}",
          f"--config.optim.warmup_updates={rise}",
          f"--config.optim.cycle_updates={updates + rise}"]
