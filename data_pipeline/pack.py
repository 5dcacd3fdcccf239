"""Staged routes -> shards, index, statistics and the manifest, in that order.

The second half of data_pipeline.prepare. What a killed run left of it is made
anew: it is a copy of the staged files, minutes where those took hours.
"""

import dataclasses
import io
import json
import os
import shutil

import numpy as np
import PIL

from data_pipeline import (
    builder,
    normalize,
    prepared,
    records,
    spec,
    stage,
)
from data_pipeline import windows as windows_lib

SHARDS = "drivemoe_frames"  # folder that TFDS names after the builder


def pack(out, options, names, val_routes, skipped, *, facts, beam=None,
         say=print):
  """Finishes a prepared folder whose routes are staged.

  Args:
    out: the folder. options: prepare.Options. facts: of the records.Source.
    names: staged routes to pack. val_routes: the set of validation routes.
    skipped: {name: why} of routes left out.
    beam, say: see prepare.prepare.

  Returns:
    The manifest.
  """
  folder = os.path.join(out, "stage")
  staged = {}
  for name in names:
    with stage.RouteFile(folder, name) as file:
      staged[name] = file
  splits = {"train": [name for name in names if name not in val_routes],
            "val": [name for name in names if name in val_routes]}
  shards = {
      split: [builder.Shard(folder, routes) for routes in _groups(
          members, staged, options.frames_per_shard)]
      for split, members in splits.items() if members}
  say(f"prepare: packing {sum(map(len, shards.values()))} shards")
  shutil.rmtree(os.path.join(out, SHARDS), ignore_errors=True)
  paths = builder.build(out, shards, size=options.size,
                        encoding=options.encoding, beam=beam)
  routes, files = _places(out, shards, paths, staged)
  _write(os.path.join(out, prepared.INDEX), _index(
      [staged[route["name"]].arrays for route in routes]))
  counts = _statistics(out, options, {
      split: [prepared.to_route(name, staged[name].arrays)
              for name in members] for split, members in splits.items()})
  small = [prepared.INDEX, *map(normalize.file_name, options.horizons)]
  manifest = {
      "format": prepared.FORMAT,
      "options": dataclasses.asdict(options),
      "source": facts,
      "pillow": PIL.__version__,
      "frames": sum(route["frames"] for route in routes),
      "windows": counts,
      "skipped": skipped,
      "files": {file: _facts(os.path.join(out, file)) for file in small},
      "shards": files,
      "routes": routes,
  }
  text = json.dumps(manifest, indent=1) + "\n"
  _write(os.path.join(out, prepared.MANIFEST), text.encode())
  return json.loads(text)


def _groups(names, staged, frames):
  """Consecutive names, each group of just as many as hold `frames`."""
  groups, count = [[]], 0
  for name in names:
    if count >= frames:
      groups.append([])
      count = 0
    groups[-1].append(name)
    count += staged[name].made["frames"]
  return [tuple(group) for group in groups]


def _places(out, shards, paths, staged):
  """Returns the manifest's rows of routes and of shards."""
  routes, files = [], []
  for split, group in shards.items():
    for shard, path in zip(group, paths[split], strict=True):
      file, first = os.path.relpath(path, out), 0
      for name in shard.routes:
        made = staged[name].made
        routes.append({
            "name": name, "split": split, "shard": file, "first": first,
            "frames": made["frames"], "sha256": made["sha256"],
            "version": made["version"]})
        first += made["frames"]
      files.append({"file": file, "split": split, "records": first}
                   | _facts(path))
  return routes, files


def _facts(path):
  """Size and hash of a file."""
  return {"bytes": os.path.getsize(path), "sha256": prepared.file_hash(path)}


def _index(routes):
  """[{key: array [N, ...]}, ...] -> bytes of the joined arrays."""
  out = io.BytesIO()
  np.savez(out, **{
      key: np.concatenate([arrays[key] for arrays in routes])
      for key in (*records.NUMBERS, *records.LABELS)})
  return out.getvalue()


def _statistics(out, options, splits):
  """Writes the statistics of every horizon; returns counts of windows.

  Returns:
    {horizon: {split: {"windows": n, "camera": [...] or null, "skill": ...,
    "too_short": [route, ...]}}}.
  """
  counts = {}
  for horizon in options.horizons:
    counts[str(horizon)] = {}
    for split, routes in splits.items():
      long = [route for route in routes if len(route) > horizon]
      count = {"windows": 0, "camera": None, "skill": None, "too_short": [
          route.name for route in routes if len(route) <= horizon]}
      if long or split == "train":
        cut = windows_lib.join([windows_lib.make_windows(
            route, history=options.history, horizon=horizon)
            for route in long], root=f"{out}, {split}, horizon {horizon}")
        count |= {"windows": len(cut)} | _class_counts(cut)
      if split == "train":
        normalize.compute(cut).save(  # pyright: ignore[reportPossiblyUnboundVariable]
            os.path.join(out, normalize.file_name(horizon)), overwrite=True)
      counts[str(horizon)][split] = count
  return counts


def _class_counts(windows):
  """{"camera", "skill": samples of each class, None without labels}."""
  return {
      key: None if getattr(windows, key) is None else np.bincount(
          getattr(windows, key), minlength=len(classes)).tolist()
      for key, classes in (("camera", spec.Camera), ("skill", spec.Skill))}


def _write(path, content):
  """Writes bytes atomically."""
  with open(path + ".partial", "wb") as file:
    file.write(content)
  os.replace(path + ".partial", path)
