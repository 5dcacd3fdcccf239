"""Checks raw Bench2Drive folders: files, numbers, labels, pixels, split."""

import functools
import hashlib
import os

import numpy as np

from data_pipeline import (
    bench2drive,
    errors,
    frame_numbers,
    images,
    spec,
    verify,
)

REMEDY = "extract or record the route again"


def check(root, labels_root=None, *, val_list=None, decode=True,
          everything=False, workers=1):
  """Checks all routes of a folder -> verify.Report.

  Args:
    root, labels_root: see bench2drive.read_route.
    val_list: file of validation routes, to check the split.
    decode: whether to decode every image, most of the time.
    everything: go on after the first fault.
    workers: processes.

  Raises:
    DataError: no route at all.
  """
  names = bench2drive.list_routes(root)
  report = verify.gather(
      functools.partial(check_route, root, labels_root, decode, everything),
      names, everything=everything, workers=workers)
  if val_list is not None:
    report.take(verify.list_faults(
        val_list, set(names), report.checked), everything)
    _, val = bench2drive.split(names, val_list=val_list)
    report.take(verify.split_faults(
        set(val), report.recordings, report.checked), everything)
  return report


def check_route(root, labels_root, decode, everything, name):
  """Checks one route -> verify.Report."""
  report = verify.Report(routes=1)
  report.take(_route_faults(root, labels_root, decode, name, report),
              everything)
  return report


def _route_faults(root, labels_root, decode, name, report):
  """Yields the faults of a route, cheapest checks first."""
  folder = os.path.join(root, name)
  checked = report.checked
  checked["route name"] += 1
  yield from _attempt("route name", name, folder,
                      bench2drive.parse_name, name)
  annotations, report.frames = _listing(
      os.path.join(folder, "anno"), "json.gz")
  if not report.frames:
    yield verify.Fault("annotation", name, None, folder, (
        f"{folder}/anno: no frame in it; {REMEDY}"))
  yield from _missing("annotation", name, os.path.join(folder, "anno"),
                      "json.gz", annotations, report)
  cameras = {}
  for camera in spec.CAMERA_FOLDERS:
    path = os.path.join(folder, "camera", camera)
    cameras[path], _ = _listing(path, "jpg")
    yield from _missing("camera file", name, path, "jpg", cameras[path],
                        report)
  yield from _annotation_faults(name, folder, sorted(annotations), report)
  if labels_root is not None:
    yield from _label_faults(labels_root, name, report)
  if decode:
    for path, present in cameras.items():
      for t in sorted(present):
        checked["image"] += 1
        file = os.path.join(path, f"{t:05d}.jpg")
        # One pixel is enough, all of the file is decoded for it.
        yield from _attempt("image", name, file, images.load, file, 1,
                            frame=t)


def _attempt(check, name, file, function, *args, frame=None):
  """Yields the fault that `function` raises, if it does."""
  try:
    function(*args)
  except errors.DataError as error:
    yield verify.Fault(check, name, frame, file, error.args[0])


def _listing(folder, suffix):
  """Returns (set of frames in a folder, number of frames of the route)."""
  frames = (frame_numbers.listed(folder, suffix) if os.path.isdir(folder)
            else set())
  return frames, max(frames, default=-1) + 1


def _missing(check, name, folder, suffix, present, report):
  for t in range(report.frames):
    report.checked[check] += 1
    if t not in present:
      file = os.path.join(folder, f"{t:05d}.{suffix}")
      yield verify.Fault(check, name, t, file, (
          f"{file} is missing: frame {t} of {report.frames}; {REMEDY}"))


def _annotation_faults(name, folder, frames, report):
  """Reads every frame's numbers; notes the recording's hash."""
  digest, whole = hashlib.sha256(), True
  for t in frames:
    report.checked["numbers"] += 1
    path = os.path.join(folder, "anno", f"{t:05d}.json.gz")
    try:
      digest.update(np.array(frame_numbers.read(path, "box")).tobytes())
    except errors.DataError as error:
      whole = False
      yield verify.Fault("numbers", name, t, path, error.args[0])
  if whole and frames:
    report.recordings[name] = digest.hexdigest()


def _label_faults(labels_root, name, report):
  for folder, table in bench2drive.LABEL_FOLDERS.values():
    report.checked["labels"] += 1
    path = os.path.join(labels_root, folder, f"{name}.json")
    yield from _attempt("labels", name, path, bench2drive.read_labels, path,
                        report.frames, table)
