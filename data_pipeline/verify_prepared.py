"""Checks prepared folders: hashes, counts, every record, the split."""

import functools
import hashlib
import os

import numpy as np

from data_pipeline import errors, images, prepared, reading, records, verify

REMEDY = "prepare the folder again, or copy it again from where it is whole"


def check(root, *, val_list=None, decode=True, everything=False, workers=1):
  """Checks a prepared folder -> verify.Report; arguments as in verify_raw.

  Raises:
    DataError: no manifest or index, or one that cannot be read.
  """
  data = prepared.Prepared(root)
  report = verify.Report(routes=len(data.routes))
  report.take(_file_faults(data, report.checked), everything)
  if report.faults and not everything:
    return report
  report.add(verify.gather(
      functools.partial(check_shard, root, decode, everything),
      [shard["file"] for shard in data.manifest["shards"]],
      everything=everything, workers=workers))
  report.take(_split_faults(data, val_list, report.checked), everything)
  return report


def check_shard(root, decode, everything, file):
  """Checks one shard -> verify.Report."""
  data, report = prepared.Prepared(root), verify.Report()
  shard = next(s for s in data.manifest["shards"] if s["file"] == file)
  report.take(_shard_faults(data, shard, decode, report), everything)
  return report


def _file_faults(data, checked):
  """Index and statistics must be the ones that the manifest names."""
  for name, facts in data.manifest["files"].items():
    checked["file"] += 1
    path = os.path.join(data.root, name)
    yield from _hash_faults("file", path, facts)


def _hash_faults(check, path, facts):
  try:
    size = os.path.getsize(path)
    found = prepared.file_hash(path) if size == facts["bytes"] else None
  except OSError as error:
    yield verify.Fault(check, None, None, path,
                       f"{path}: {error.strerror}; {REMEDY}")
    return
  if size != facts["bytes"]:
    yield verify.Fault(check, None, None, path, (
        f"{path} has {size} bytes, the manifest says {facts['bytes']}; "
        f"{REMEDY}"))
  elif found != facts["sha256"]:
    yield verify.Fault(check, None, None, path, (
        f"{path} has sha256 {found[:12]}..., the manifest says "
        f"{facts['sha256'][:12]}...; {REMEDY}"))


def _shard_faults(data, shard, decode, report):
  """Yields the faults of a shard; records first, for they say where."""
  path = os.path.join(data.root, shard["file"])
  routes = [route for route in data.manifest["routes"]
            if route["shard"] == shard["file"]]
  count = sum(route["frames"] for route in routes)
  report.checked["record count"] += 1
  if count != shard["records"]:
    yield verify.Fault("record count", None, None, path, (
        f"{path} holds {shard['records']} records, its routes have {count} "
        f"frames; {REMEDY}"))
  for route in routes:
    yield from _record_faults(data, route, decode, report)
  report.checked["shard"] += 1
  yield from _hash_faults("shard", path, shard)


def _record_faults(data, route, decode, report):
  name, whole = route["name"], True
  path = os.path.join(data.root, route["shard"])
  shards, digest = prepared.Shards(data.root), hashlib.sha256()
  numbers, size = data.read_route(name), data.manifest["options"]["size"]
  fault = lambda check, t, why: verify.Fault(check, name, t, path, why)
  for t in range(route["frames"]):
    report.frames += 1
    report.checked["record"] += 1
    try:
      record = shards.record(name, t)
    except errors.DataError as error:
      whole = False
      yield fault("record", t, error.args[0])
      continue
    digest.update(records.encode(record))
    different = _differences(record, numbers, t)
    if different:
      yield fault("record", t, (
          f"{path} record {route['first'] + t}: {different} differs from "
          f"frame {t} of {name} in the index; {REMEDY}"))
    if decode:
      yield from _image_faults(record, size, path, name, t, report.checked)
  report.checked["route hash"] += 1
  if whole and digest.hexdigest() != route["sha256"]:
    yield fault("route hash", None, (
        f"{path}: the records of {name} are not those that were staged; "
        f"{REMEDY}"))


def _differences(record, route, frame):
  """Returns the first key in which a record is not this frame, or None."""
  if record[records.ROUTE] != route.name.encode():
    return records.ROUTE
  if records.number(record, "frame") != frame:
    return "frame"
  for key in (*records.NUMBERS, *records.LABELS):
    values = getattr(route, key)
    want = records.UNLABELLED if values is None else values[frame]
    if not np.array_equal(records.number(record, key), want):
      return key
  return None


def _image_faults(record, size, path, name, frame, checked):
  for camera in records.IMAGES:
    checked["image"] += 1
    try:
      _, found = images.opened(
          record[camera], lambda image: (image.load(), image.size))
    except (KeyError, *images.UNREADABLE) as error:
      yield verify.Fault("image", name, frame, path, (
          f"{path}: {camera} of {name} frame {frame} is no readable image "
          f"({error}); {REMEDY}"))
      continue
    if found != (size, size):
      yield verify.Fault("image", name, frame, path, (
          f"{path}: {camera} of {name} frame {frame} is {found[0]}x{found[1]}"
          f", the manifest says {size}x{size}; {REMEDY}"))


def _split_faults(data, val_list, checked):
  """No route twice, no recording on both sides; the list, if given."""
  val = {name for name, route in data.routes.items()
         if route["split"] == "val"}
  recordings = {}
  for name in data.routes:
    route = data.read_route(name)
    recordings[name] = hashlib.sha256(b"".join(
        getattr(route, key).tobytes() for key in records.NUMBERS)).hexdigest()
  yield from verify.split_faults(val, recordings, checked)
  if val_list is None:
    return
  skipped = set(data.manifest["skipped"])
  yield from verify.list_faults(val_list, set(data.routes) | skipped, checked)
  listed = set(reading.words(val_list, verify.LIST))
  for name in data.routes:
    checked["split"] += 1
    if (name in listed) != (name in val):
      yield verify.Fault("split", name, None, val_list, (
          f"{name} was prepared for {data.routes[name]['split']}, {val_list} "
          "says otherwise; prepare again with this list"))
