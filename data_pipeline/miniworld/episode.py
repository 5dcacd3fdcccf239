"""One drive in the loop, written as a whole or not at all.

  FOLDER/<save_name>/{record,metric_info,drive}.json

drive.json has the pedals and the wheel of every tick, so that the drive can be
had again without its driver, see handover.py.

A folder that exists is finished; the same arguments give the same bytes.
"""

import json
import os
import shutil

from data_pipeline import errors, reading
from data_pipeline.miniworld import names, referee
from data_pipeline.miniworld import world as worlds

EVERY = 2            # ticks between entries of metric_info.json


def path(folder, kind, seed):
  """Where the drive of (type, seed) is, or will be."""
  return os.path.join(folder, f"{names.number(kind, seed)}_{kind}")


def drive(kind, seed, make, size, watch=None, until_fault=False):
  """Drives to the end, or until the first infraction.

  Args:
    kind, seed: of the scene. make: World -> driver, see drivers.py.
    size: of the camera images [px].
    watch: called with (world, driver, control) before every tick.
    until_fault: whether to end at an infraction, for those who want to know
      what led to it.

  Returns:
    {"record", "metric_info", "drive"}: contents of the three files.
  """
  world = worlds.World(size)
  state = world.reset(kind, seed)
  driver, judge, motion = make(world), referee.Referee(world), {}
  controls = []
  while not (judge.ended or until_fault and any(judge.infractions.values())):
    control = driver.control()
    if state.tick % EVERY == 0:
      motion[str(state.tick)] = referee.motion(state)
    if watch:
      watch(world, driver, control)
    controls.append([control.throttle, control.steer, control.brake])
    state = world.step(control)
    judge.watch(state)
  said = driver.summary() if hasattr(driver, "summary") else {}
  return {"record": judge.record(seed), "metric_info": motion,
          "drive": {"kind": kind, "seed": seed, **said,
                    "controls": controls}}


def controls(folder, kind, seed):
  """[Control of tick 0, 1, ...] of a written drive.

  Raises:
    DataError: no such drive, or none with its controls.
  """
  file = os.path.join(path(folder, kind, seed), "drive.json")
  said = reading.json_file(file, "drive it again", errors.DataError)
  try:
    return [worlds.Control(*map(float, ticked)) for ticked in said["controls"]]
  except (KeyError, TypeError, ValueError) as error:
    raise errors.DataError(
        f"{file} holds no controls ({type(error).__name__}: {error}); drive it "
        "again") from None


def write(folder, files):
  """Writes what drive() returned into its own folder below `folder`.

  Raises:
    StorageError: the disk is full or cannot be written.
  """
  final = os.path.join(folder, files["record"]["save_name"])
  part = os.path.join(folder, f".part_{files['record']['save_name']}")
  try:
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    for name, value in files.items():
      with open(os.path.join(part, f"{name}.json"), "w",
                encoding="utf-8") as file:
        json.dump(value, file)
    os.rename(part, final)
  except OSError as error:
    raise errors.StorageError(
        f"{final}: {error.strerror}; make room and run again: finished "
        "drives are kept") from None
