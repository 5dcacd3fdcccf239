"""Drives the expert through seeded scenes and writes Bench2Drive's folders.

  OUT/routes/<Type>_TownNN_RouteN_WeatherN/{anno,camera}, OUT/camera_labels/,
  OUT/scenario_labels/, OUT/val_routes.txt, OUT/dataset.json

A route is written under a temporary name and moved into place, so a folder
that exists is whole: a run that was killed goes on where it stopped. The same
arguments give the same bytes with any number of processes.
"""

import json
import os

from data_pipeline import errors, reading, writing
from data_pipeline.miniworld import (
  episode,
  handover,
  names,
  pool,
  scenarios,
  takeover,
  worker,
)

FORMAT = 2           # one more whenever the same plan gives other bytes
MAX_FRAMES = 150
QUALITY = 90         # of the JPEGs
SEEDS = range(10)    # training seeds
VAL_SEED = 9000      # first validation seed, far from training's


def record(out_dir, scenario_types=None, seeds=SEEDS,
           val_seeds=range(VAL_SEED, VAL_SEED + 2), *, size=(320, 180),
           quality=QUALITY, max_frames=MAX_FRAMES, val_max_frames=None,
           handover_frames=0, drives=None, base=None, workers=2,
           progress=None):
  """Writes a data folder, or completes one that these arguments began.

  Args:
    out_dir: folder to write; it may exist if it is empty or ours.
    scenario_types: names from scenarios.SCENARIOS; None is names.FIRST.
    seeds, val_seeds: disjoint iterables of ints, used for every scenario.
    size: width and height of the images [px]. quality: of the JPEGs, 20..95;
      the default is far above Bench2Drive's 20 because a person who is 4
      pixels wide at 320x180 would drown in 8x8 blocks.
    max_frames: a route ends after this many frames (10 Hz).
    val_max_frames: the same of validation routes; None for the same number.
    handover_frames: training routes of seven seeds of eight begin where
      another driver leaves the car, and end after so many frames; those of
      every eighth seed begin standing, see handover.py. 0: none of that.
    drives: folder of a policy's drives of these scenes (episode.py); it leaves
      the car to the expert then, in place of a careless driver.
    base: a finished recording of other seeds, whose routes are taken over.
    workers: processes. progress: called with (done, total, route name).

  Returns:
    dict with "routes" {name: number of frames} and "val_routes" [names].

  Raises:
    ConfigError: unknown scenario, overlapping seeds, bad size or quality.
    DataError: out_dir holds something else, or another recording; a drive or
      the base is not there, or not finished.
  """
  if workers < 1:
    raise errors.ConfigError(f"{workers} workers; one or more record")
  plan = _plan(scenario_types, seeds, val_seeds, size, quality, max_frames,
               val_max_frames, handover_frames)
  if drives:
    plan["drives"] = _identity(drives, handover_frames)
  taken = {"routes": {}, "val_routes": []}
  if base:
    plan["base"], taken = takeover.finished(base, plan)
  known = _known(out_dir, plan)
  if known:
    return known
  _check_free(out_dir)
  try:
    os.makedirs(out_dir, exist_ok=True)
  except OSError as error:
    raise errors.StorageError(f"{out_dir}: {error.strerror}; choose a place "
                              "that can be written") from None
  with writing.alone(out_dir, "recorded"):  # two would clear each other's parts
    known = _known(out_dir, plan)
    if known:
      return known
    _claim(out_dir, plan)
    return _record(out_dir, plan, drives, base, taken, workers, progress)


def _record(out_dir, plan, drives, base, taken, workers, progress):
  """Makes what is missing of a claimed folder; the summary of it all."""
  jobs = _jobs(out_dir, plan, drives)
  for name in taken["routes"]:
    if not worker.frames_of(out_dir, name):
      takeover.route(base, out_dir, name, worker.LABELS)
  made = {}
  for done, (job, name) in enumerate(_run(jobs, workers), 1):  # pyright: ignore[reportGeneralTypeIssues]
    made[job["kind"], job["seed"]] = name
    if progress:
      progress(done, len(jobs), name)
  ordered = [(job["seed"], made[job["kind"], job["seed"]]) for job in jobs]
  val = [*taken["val_routes"],
         *(name for seed, name in ordered if seed in plan["val_seeds"])]
  every = [*taken["routes"], *(name for _, name in ordered)]
  writing.put(os.path.join(out_dir, "val_routes.txt"), "\n".join(val) + "\n")
  frames = {name: worker.frames_of(out_dir, name) for name in every}
  summary = {"routes": frames, "val_routes": val}
  _write_plan(out_dir, plan, summary)  # last: it says that all is there
  return summary


def _jobs(out_dir, plan, drives):
  """Arguments of worker.record_route for every route, the validation's last."""
  same = {"out_dir": out_dir, "size": plan["size"], "quality": plan["quality"],
          "max_frames": plan["max_frames"]}
  train = same | {"handover_frames": plan.get("handover_frames", 0),
                  "drives": drives}
  val = same | {"handover_frames": 0,
                "max_frames": plan.get("val_max_frames", plan["max_frames"])}
  jobs = [settings | {"kind": kind, "seed": seed}
          for settings, seeds in ((train, plan["seeds"]),
                                  (val, plan["val_seeds"]))
          for seed in seeds for kind in plan["scenarios"]]
  for job in jobs:
    if job.get("drives") and handover.hands_over(job["seed"]):
      episode.controls(drives, job["kind"], job["seed"])  # or it is told here
  return jobs


def _run(jobs, workers):
  if workers == 1:
    yield from ((job, worker.record_route(**job)) for job in jobs)
    return
  try:
    yield from pool.run(jobs, workers)
  except pool.Died as error:
    raise errors.UserError(
        f"{error}; free memory or disk space, or use fewer workers, and start "
        "again: it goes on from the routes that are whole") from None


def _plan(scenario_types, seeds, val_seeds, size, quality, max_frames,
          val_max_frames, handover_frames):
  """The checked arguments that decide the bytes, as JSON would hold them."""
  kinds = list(dict.fromkeys(scenario_types or names.FIRST))
  for kind in kinds:
    scenarios.check(kind)
  seeds, val_seeds = sorted(set(seeds)), sorted(set(val_seeds))
  both = sorted(set(seeds) & set(val_seeds))
  if both:
    raise errors.ConfigError(f"seeds {both} are in training and validation; "
                             "choose disjoint ranges")
  if not seeds and not val_seeds:
    raise errors.ConfigError("no seeds, nothing to record; ask for at least "
                             "one training or validation route")
  for what, some in (("seed", seeds), ("validation seed", val_seeds)):
    if some and not 0 <= some[0] <= some[-1] < names.FIRST_TEST_SEED:
      raise errors.ConfigError(
          f"{what}s {some[0]} to {some[-1]}: take them from 0 to "
          f"{names.FIRST_TEST_SEED - 1}; later ones are for tests in the loop")
  if max_frames < 1 or (val_max_frames or 1) < 1:
    raise errors.ConfigError(f"max_frames {max_frames}, val_max_frames "
                             f"{val_max_frames}: must be 1 or more")
  if not 20 <= quality <= 95:
    raise errors.ConfigError(f"JPEG quality {quality} is outside 20..95")
  if min(size) < 32 or max(size) > 4096 or size[1] % 2:
    raise errors.ConfigError(f"image size {size[0]}x{size[1]}: use 32 to 4096 "
                             "pixels and an even height")
  lead = handover.LEAD // worker.EVERY
  if handover_frames and handover_frames <= lead:
    raise errors.ConfigError(
        f"handover_frames {handover_frames}: the first {lead} are not the "
        "expert's; give more, or 0 for no handovers")
  plan = {"format": FORMAT, "scenarios": kinds, "seeds": seeds,
          "val_seeds": val_seeds, "size": list(size), "quality": quality,
          "max_frames": max_frames}
  if val_max_frames:
    plan["val_max_frames"] = val_max_frames
  if handover_frames:
    plan["handover_frames"] = handover_frames
  return plan


def _identity(drives, handover_frames):
  """What tells a folder of drives from another: the driver, its weights."""
  if not handover_frames:
    raise errors.ConfigError("drives hand over to the expert; give "
                             "handover_frames, such as 36")
  return reading.json_file(os.path.join(drives, "plan.json"),
                           "name a folder of drives", errors.DataError)


def _known(out_dir, plan):
  """Summary of a complete recording; None where there is less of this plan."""
  path = os.path.join(out_dir, "dataset.json")
  if not os.path.exists(path):
    return None
  known = reading.json_file(path, "remove it, and it is written anew")
  if known.get("plan") != plan:
    there = known.get("plan", {})
    differ = "; ".join(
        f"{key} {_brief(there.get(key))} there, {_brief(plan.get(key))} asked"
        for key in there | plan if there.get(key) != plan.get(key))
    raise errors.DataError(f"{path} is another recording ({differ}); "
                           "choose another folder")
  whole = known.get("summary") and all(
      worker.frames_of(out_dir, name) == frames
      for name, frames in known["summary"]["routes"].items())
  return known["summary"] if whole else None


def _check_free(out_dir):
  """Refuses a folder that somebody else filled."""
  name = "dataset.json"
  there = set(os.listdir(out_dir)) if os.path.isdir(out_dir) else set()
  if name not in there and there - {name + writing.PART, writing.LOCK}:
    raise errors.DataError(f"{out_dir} is not empty and holds no recording of "
                           "the miniworld; choose another folder")


def _claim(out_dir, plan):
  """Makes the folders of a plan."""
  _write_plan(out_dir, plan, None)  # first: it says that the folder is ours
  for folder in ("routes", *worker.LABELS):
    os.makedirs(os.path.join(out_dir, folder), exist_ok=True)


def _brief(value):
  """As a message tells it: of seeds in a row the first and the last."""
  if (isinstance(value, list) and len(value) > 2 and all(
      isinstance(v, int) and v == value[0] + i for i, v in enumerate(value))):
    return f"{value[0]}..{value[-1]}"
  return value


def _write_plan(out_dir, plan, summary):
  writing.put(os.path.join(out_dir, "dataset.json"), json.dumps(
      {"plan": plan, "summary": summary}, indent=1) + "\n")
