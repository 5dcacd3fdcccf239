"""Records one route; run as a program it is a child of pool.py.

A route is written under a temporary name and moved into place, so a folder
that exists is whole.
"""

import gzip
import json
import os
import shutil

import cv2

from data_pipeline import writing
from data_pipeline.miniworld import (
  annotations,
  episode,
  handover,
  labels,
  pool,
)
from data_pipeline.miniworld import expert as experts
from data_pipeline.miniworld import world as worlds

EVERY = 2            # ticks between saved frames: 10 Hz of 20 Hz
LABELS = ("camera_labels", "scenario_labels")


def route_name(scene, seed):
  return (f"{scene.kind}_Town{scene.town_id}_Route{seed}"
          f"_Weather{scene.weather}")


def frames_of(out_dir, name):
  """Frames of a route that is whole, else 0."""
  folder = os.path.join(out_dir, "routes", name, "anno")
  labelled = all(os.path.exists(os.path.join(out_dir, kind, name + ".json"))
                 for kind in LABELS)
  return len(os.listdir(folder)) if labelled and os.path.isdir(folder) else 0


def record_route(out_dir, kind, seed, size, quality, max_frames,
                 handover_frames, drives=None):
  """Drives one scene and writes it, unless it is there; returns its name."""
  world = worlds.World(size)
  world.reset(kind, seed)
  name = route_name(world.scene, seed)
  if frames_of(out_dir, name):
    return name
  if handover_frames:
    known = drives and handover.hands_over(seed)
    world, driver = handover.begin(
        world, episode.controls(drives, kind, seed) if known else None)
    if driver.careless:
      max_frames = min(max_frames, handover_frames)
  else:
    driver = experts.Expert(world)
  final = os.path.join(out_dir, "routes", name)
  part = os.path.join(out_dir, f".part_{name}")
  for leftover in (part, final):
    shutil.rmtree(leftover, ignore_errors=True)
  os.makedirs(os.path.join(part, "anno"))
  for camera in world.cameras():
    os.makedirs(os.path.join(part, "camera", camera))
  frames = _drive(world, driver, part, quality, max_frames)
  kinds = labels.of_scene(frames, world.scene)
  for folder, values in zip(LABELS, kinds):
    writing.put(os.path.join(out_dir, folder, name + ".json"), json.dumps(
        {str(i): value for i, value in enumerate(values)}, indent=1))
  os.replace(part, final)
  return name


def _drive(world, driver, folder, quality, max_frames):
  """Runs the driver to the end; returns the Facts of every saved frame."""
  state, frames = world.state(), []
  while not state.finished and len(frames) < max_frames:
    control = driver.control()
    if state.tick % EVERY == 0:
      _save(world, folder, len(frames), driver.asked, driver.emergency, quality)
      frames.append(labels.facts(world, driver.asked, driver.emergency,
                                 *annotations.affecting(world)))
    state = world.step(control)
  return frames


def _save(world, folder, frame, control, emergency, quality):
  for name, image in world.cameras().items():
    path = os.path.join(folder, "camera", name, f"{frame:05d}.jpg")
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [
        cv2.IMWRITE_JPEG_QUALITY, quality])
    with open(path, "wb") as file:
      file.write(data.tobytes())
  anno = json.dumps(annotations.annotate(world, control, emergency))
  with open(os.path.join(folder, "anno", f"{frame:05d}.json.gz"),
            "wb") as file:
    # mtime=0: the same frame is the same file at any hour.
    file.write(gzip.compress(anno.encode(), compresslevel=3, mtime=0))


if __name__ == "__main__":
  pool.serve(lambda job: record_route(**job))
