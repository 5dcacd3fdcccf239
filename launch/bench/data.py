"""Training batches a second: raw routes, prepared shards, a PyTorch loader.

All sides give batches of seven 224x224 images with augmentation, and their
numbers. Nothing decoded is kept from one sample to the next, as in the first
epoch of a set that is larger than memory. Without --routes, a few routes of
the embedded world are recorded at Bench2Drive's size (1600x900, quality 20).
"""

import dataclasses
import importlib.util
import os
import tempfile

import numpy as np

from data_pipeline import errors
from launch import flags
from launch.bench import rows, sides, soak

ROUNDS = 2      # turns of every side, so that no one has the quiet minute


def add_arguments(parser):
  parser.add_argument("--routes", metavar="DIR", help="raw routes")
  parser.add_argument("--labels", metavar="DIR", help="their labels")
  parser.add_argument("--prepared", metavar="DIR",
                      help="the same, prepared; default: done here")
  parser.add_argument("--workdir", metavar="DIR",
                      help="keep what is recorded and prepared there")
  parser.add_argument("--against", choices=["pytorch"],
                      help="race a DataLoader with as many workers on the "
                      "raw routes")
  parser.add_argument("--batch-size", type=int, default=16)
  parser.add_argument("--image-size", type=int, default=224)
  parser.add_argument("--workers", type=int, default=2,
                      help="threads here, processes there")
  parser.add_argument("--blocks", type=int, default=5, metavar="N",
                      help="timed blocks a turn; a time is a block's mean")
  parser.add_argument("--batches", type=int, default=6, metavar="N",
                      help="batches in a block")
  parser.add_argument("--soak", type=float, metavar="MINUTES",
                      help="instead: load for so long, tell how memory grows")


def run(args, say):
  """Returns {"rows": [...], "ok", "batch_size", "machine", ...}."""
  flags.check_positive(args, "batch_size", "image_size", "workers", "blocks",
                       "batches")
  if args.against:
    _require_torch()
  with tempfile.TemporaryDirectory(prefix="bench_data_") as scratch:
    place = args.workdir or scratch
    work = sides.Work(
        raw=args.routes or os.path.join(place, "data", "routes"),
        labels=args.labels if args.routes else os.path.join(place, "data"),
        prepared=args.prepared or os.path.join(
            place, f"prepared_{args.image_size}"),
        batch_size=args.batch_size, image_size=args.image_size,
        workers=args.workers, blocks=args.blocks, batches=args.batches)
    if not args.routes:
      sides.record(os.path.join(place, "data"), args.workers, say)
    if not args.prepared:
      sides.prepare(work, say)
    about = {"batch_size": work.batch_size, "machine": rows.machine(),
             "work": dataclasses.asdict(work) | sides.facts(work)}
    if args.soak:
      return about | _soak(work, args.soak, say)
    return about | _race(work, args.against, say)


def _require_torch():
  missing = [name for name in ("torch", "torchvision")
             if not importlib.util.find_spec(name)]
  if missing:
    raise errors.ConfigError(
        f"--against pytorch needs {' and '.join(missing)}; install torch and "
        "torchvision (their CPU builds are enough) or leave it out")


def _race(work, against, say):
  """Every side in turns, each time in a fresh process."""
  runs = {"raw": sides.raw, "raw floor": sides.bare_decode,
          "prepared": sides.prepared, "prepared floor": sides.bare_augment}
  if against:
    from launch.bench import torch_data
    runs["torch"] = torch_data.raw
  times = {name: [] for name in runs}
  peaks = dict.fromkeys(runs, 0)
  for turn in range(ROUNDS):
    for name, side in runs.items():
      found, peak = rows.in_fresh_process(side, work)
      times[name] += found
      peaks[name] = max(peaks[name], peak)
      say(f"bench: turn {turn + 1}/{ROUNDS}, {name}: "
          f"{np.median(found):.1f} ms a batch")
  other = ("PyTorch DataLoader, raw routes", times["torch"]) if (
      against) else None
  middle = lambda name: float(np.median(times[name]))
  result = [
      rows.make("raw routes", times["raw"], peak_bytes=peaks["raw"],
                floor_ms=middle("raw floor"), against=other),
      rows.make("prepared shards", times["prepared"],
                peak_bytes=peaks["prepared"],
                floor_ms=middle("prepared floor"), against=other)]
  if against:
    result.append(rows.make(other[0], other[1], peak_bytes=peaks["torch"],
                            floor_ms=middle("raw floor")))
  return {"ok": True, "rows": result, "remarks": [
      "floors: decoding and resizing alone (raw), augmentation alone "
      "(prepared)"]}


def _soak(work, minutes, say):
  """Loads prepared shards; ok when memory stays."""
  found, peak = rows.in_fresh_process(soak.run, work, minutes * 60)
  slope = soak.slope_mb_per_minute(found["seconds"], found["bytes"])
  say(f"bench: {minutes} minutes, {len(found['times_ms'])} batches")
  return {
      "ok": slope < soak.LIMIT_MB_PER_MINUTE,
      "rows": [rows.make("prepared shards", found["times_ms"],
                         peak_bytes=peak)],
      "soak": {"minutes": minutes, "slope_mb_per_minute": slope,
               "limit_mb_per_minute": soak.LIMIT_MB_PER_MINUTE,
               "seconds": found["seconds"], "bytes": found["bytes"]},
      "remarks": [f"memory grows by {slope:.2f} MB a minute after warm-up, "
                  f"allowed are {soak.LIMIT_MB_PER_MINUTE:.0f}"]}
