"""Drives the expert through seeded scenes and writes Bench2Drive's folders.

  OUT/routes/<Type>_TownNN_RouteN_WeatherN/{anno,camera}, OUT/camera_labels/,
  OUT/scenario_labels/, OUT/val_routes.txt, OUT/dataset.json (written last).

A route is written under a temporary name and moved into place, so a folder
that exists is whole: a run that was killed goes on where it stopped. The same
arguments give the same bytes with any number of processes.
"""

import concurrent.futures
import gzip
import json
import multiprocessing
import os
import shutil

import cv2

from data_pipeline import errors
from data_pipeline.miniworld import annotations
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import labels
from data_pipeline.miniworld import scenarios
from data_pipeline.miniworld import world as worlds

FORMAT = 1
EVERY = 2            # ticks between saved frames: 10 Hz of 20 Hz
VAL_SEED = 9000      # validation seeds start here, training seeds at `seed`
MAX_FRAMES = 150
SEEDS = range(10)


def route_name(scene, seed):
  return (f"{scene.kind}_Town{scene.town_id}_Route{seed}"
          f"_Weather{scene.weather}")


def record(out_dir, scenario_types=None, seeds=SEEDS, val_seeds=range(
    VAL_SEED, VAL_SEED + 2), *, size=(320, 180), quality=90,
           max_frames=MAX_FRAMES, workers=2, progress=None):
  """Writes a data folder, or completes one that these arguments began.

  Args:
    out_dir: folder to write; it may exist if it is empty or ours.
    scenario_types: names from scenarios.SCENARIOS; None is all of them.
    seeds, val_seeds: disjoint iterables of ints, used for every scenario.
    size: width and height of the images [px]. quality: of the JPEGs, 20..95;
      the default is far above Bench2Drive's 20 because a person who is 4
      pixels wide at 320x180 would drown in 8x8 blocks.
    max_frames: a route ends after this many frames (10 Hz).
    workers: processes. progress: called with (done, total, route name).

  Returns:
    dict with "routes", "frames" and "val_routes" (names).

  Raises:
    ConfigError: unknown scenario, overlapping seeds, bad size or quality.
    DataError: out_dir holds something else, or another recording.
  """
  plan = _plan(scenario_types, seeds, val_seeds, size, quality, max_frames)
  if _is_complete(out_dir, plan):
    return _summary(out_dir)
  _claim(out_dir, plan)
  jobs = [(out_dir, kind, seed, tuple(size), quality, max_frames)
          for seed in [*plan["seeds"], *plan["val_seeds"]]
          for kind in plan["scenarios"]]
  names = {}
  for done, (job, name) in enumerate(_run(jobs, workers), 1):
    names[job[1:3]] = name
    if progress:
      progress(done, len(jobs), name)
  val = [names[job[1:3]] for job in jobs if job[2] in plan["val_seeds"]]
  _write(os.path.join(out_dir, "val_routes.txt"), "\n".join(val) + "\n")
  _write(os.path.join(out_dir, "dataset.json"),
         json.dumps(plan | {"complete": True}, indent=1) + "\n")
  return _summary(out_dir)


def _plan(scenario_types, seeds, val_seeds, size, quality, max_frames):
  kinds = list(scenario_types or scenarios.SCENARIOS)
  for kind in kinds:
    scenarios.check(kind)
  seeds, val_seeds = sorted(set(seeds)), sorted(set(val_seeds))
  both = sorted(set(seeds) & set(val_seeds))
  if both:
    raise errors.ConfigError(f"seeds {both} are in training and validation; "
                             "choose disjoint ranges")
  if not 20 <= quality <= 95:
    raise errors.ConfigError(f"JPEG quality {quality} is outside 20..95")
  if min(size) < 32 or max(size) > 4096 or size[1] % 2:
    raise errors.ConfigError(f"image size {size[0]}x{size[1]}: use 32 to 4096 "
                             "pixels and an even height")
  return {"format": FORMAT, "scenarios": kinds, "seeds": seeds,
          "val_seeds": val_seeds, "size": list(size), "quality": quality,
          "max_frames": max_frames}


def _read_plan(out_dir):
  path = os.path.join(out_dir, "dataset.json")
  if not os.path.exists(path):
    return None
  with open(path, encoding="utf-8") as file:
    return json.load(file)


def _is_complete(out_dir, plan):
  return _read_plan(out_dir) == plan | {"complete": True}


def _claim(out_dir, plan):
  """Makes the folders; refuses a folder that is not this recording."""
  known = _read_plan(out_dir)
  if known is None and os.path.isdir(out_dir) and os.listdir(out_dir):
    raise errors.DataError(f"{out_dir} is not empty and holds no recording of "
                           "the miniworld; choose another folder")
  if known is not None and known | {"complete": False} != plan | {
      "complete": False}:
    differ = sorted(k for k in plan if known.get(k) != plan[k])
    raise errors.DataError(
        f"{out_dir}/dataset.json is another recording ("
        + ", ".join(f"{k}: {known.get(k)} there, {plan[k]} asked"
                    for k in differ) + "); choose another folder")
  for folder in ("routes", "camera_labels", "scenario_labels"):
    os.makedirs(os.path.join(out_dir, folder), exist_ok=True)
  _write(os.path.join(out_dir, "dataset.json"),
         json.dumps(plan | {"complete": False}, indent=1) + "\n")


def _run(jobs, workers):
  """Yields (job, route name) in order of completion."""
  if workers <= 1:
    for job in jobs:
      yield job, record_route(*job)
    return
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
    futures = {pool.submit(record_route, *job): job for job in jobs}
    for future in concurrent.futures.as_completed(futures):
      yield futures[future], future.result()


def record_route(out_dir, kind, seed, size, quality, max_frames):
  """Drives one scene and writes it, unless it is there; returns its name."""
  world = worlds.World(size)
  world.reset(kind, seed)
  name = route_name(world.scene, seed)
  final = os.path.join(out_dir, "routes", name)
  if os.path.isdir(final):
    return name
  part = os.path.join(out_dir, f".part_{name}")
  shutil.rmtree(part, ignore_errors=True)
  os.makedirs(os.path.join(part, "anno"))
  for camera in world.cameras():
    os.makedirs(os.path.join(part, "camera", camera))
  frames = _drive(world, part, quality, max_frames)
  trigger = world.scene.trigger
  cameras, skills = labels.label(frames, world.scene.bypass,
                                 trigger.kind if trigger else None)
  for folder, values in (("camera_labels", cameras),
                         ("scenario_labels", skills)):
    _write(os.path.join(out_dir, folder, name + ".json"), json.dumps(
        {str(i): value for i, value in enumerate(values)}, indent=1))
  os.replace(part, final)
  return name


def _drive(world, folder, quality, max_frames):
  """Runs the expert to the end; returns the Facts of every saved frame."""
  driver, frames = experts.Expert(world), []
  state = world.state()
  while not state.finished and len(frames) < max_frames:
    control = driver.control()
    if state.tick % EVERY == 0:
      _save(world, folder, len(frames), control, driver.emergency, quality)
      frames.append(labels.facts(world, control, driver.emergency,
                                 annotations.affecting_light(world)))
    state = world.step(control)
  return frames


def _save(world, folder, frame, control, emergency, quality):
  for name, image in world.cameras().items():
    path = os.path.join(folder, "camera", name, f"{frame:05d}.jpg")
    ok, data = cv2.imencode(".jpg", image[..., ::-1],
                            [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
      raise errors.DataError(f"{path}: the image could not be encoded")
    with open(path, "wb") as file:
      file.write(data.tobytes())
  anno = json.dumps(annotations.annotate(world, control, emergency))
  with open(os.path.join(folder, "anno", f"{frame:05d}.json.gz"),
            "wb") as file:
    file.write(gzip.compress(anno.encode(), compresslevel=3, mtime=0))


def _write(path, text):
  """Writes a text file whole or not at all."""
  temporary = path + ".part"
  with open(temporary, "w", encoding="utf-8") as file:
    file.write(text)
  os.replace(temporary, path)


def _summary(out_dir):
  routes = os.path.join(out_dir, "routes")
  with open(os.path.join(out_dir, "val_routes.txt"),
            encoding="utf-8") as file:
    val = file.read().split()
  names = sorted(os.listdir(routes))
  frames = {name: len(os.listdir(os.path.join(routes, name, "anno")))
            for name in names}
  return {"routes": len(names), "frames": sum(frames.values()),
          "val_routes": val}
