"""Raw routes -> a prepared folder, in two stages that a kill cannot spoil.

First one staged file per route, in parallel; then shards, index, statistics
and, last, the manifest that makes the folder whole. Started again, it does
what is missing. The bytes depend on the routes and the options only.
"""

import dataclasses
import functools
import os
import shutil
import time

import numpy as np
import tqdm

from data_pipeline import (
  bench2drive,
  errors,
  prepared,
  records,
  stage,
  writing,
)
from data_pipeline import windows as windows_lib

PROBE_FRAMES = 3  # converted to estimate the rest


@dataclasses.dataclass(frozen=True)
class Options:
  """What the prepared folder holds; two runs into it must agree on all."""

  size: int = 224
  encoding: str = "jpeg"           # of records.ENCODINGS
  history: int = 5
  horizons: tuple = (10, 20, 21)   # statistics and counts of each
  frames_per_shard: int = 512      # or a few more: routes stay whole

  def __post_init__(self):
    if self.encoding not in records.ENCODINGS:
      raise errors.ConfigError(
          f"encoding {self.encoding!r}; choose one of "
          f"{', '.join(records.ENCODINGS)}")
    if min(self.size, self.history, self.frames_per_shard,
           *self.horizons, len(self.horizons)) < 1:
      raise errors.ConfigError(
          f"size {self.size}, history {self.history}, frames_per_shard "
          f"{self.frames_per_shard} and horizons {self.horizons} must be "
          "positive")


def prepare(source, out, options, val_routes, *, workers=1, beam=None,
            on_bad_record="fail", skip_cap=0.05, say=print):
  """Prepares all routes of a source.

  Args:
    source: records.Source.
    out: folder to write, on a disk that all workers see.
    options: Options.
    val_routes: names of the validation routes; the rest is for training.
    workers: processes of the first stage.
    beam: Apache Beam flags; then its runner does the work of both stages.
    on_bad_record: "fail" refuses to finish without all routes, once the good
      ones are staged; "skip" leaves bad ones out and lists them, up to a
      share `skip_cap`. Misaligned labels are always refused.
    say: prints a line.

  Returns:
    The manifest.

  Raises:
    ConfigError: the folder holds other data, or another process fills it.
    DataError: routes that cannot be used, as described.
    StorageError: the disk is full or cannot be written.
  """
  windows_lib.check_policy(on_bad_record)
  if workers < 1 or not 0 <= skip_cap <= 1:
    raise errors.ConfigError(f"workers {workers} must be 1 or more, skip_cap "
                             f"{skip_cap} a share from 0 to 1")
  try:
    os.makedirs(os.path.join(out, "stage"), exist_ok=True)
    with writing.alone(out, "prepared"):
      names = source.names()
      if prepared.is_prepared(out):
        manifest = _check_same(source, out, options, names, val_routes,
                               on_bad_record)
        say(f"prepare: {out} is finished, {len(manifest['routes'])} routes")
      else:
        _stage(source, out, options, names, workers, beam, say)
        skipped = _bad_routes(out, names, on_bad_record, skip_cap)
        from data_pipeline import pack  # TFDS takes seconds to load
        manifest = pack.pack(
            out, options, [n for n in names if n not in skipped],
            set(val_routes), skipped, facts=source.facts(), beam=beam,
            say=say)
      shutil.rmtree(os.path.join(out, "stage"))
  except OSError as error:
    raise stage.storage_error(out, error) from None
  return manifest


def _stage(source, out, options, names, workers, beam, say):
  """Makes the staged files that are missing."""
  folder = os.path.join(out, "stage")
  stage.clean(folder)
  wanted = folder, options.size, options.encoding
  done = stage.staged(source, *wanted, names)
  todo = [name for name in names if name not in done]
  lengths = {name: _length(source, name) for name in names}
  say(_estimate(source, out, options, lengths, todo, workers))
  convert = functools.partial(stage.stage_route, source, *wanted)
  if beam:
    _stage_by_beam(convert, todo, beam)
    return
  with tqdm.tqdm(total=sum(lengths.values()), unit="frame", mininterval=1.0,
                 initial=sum(lengths[name] for name in done)) as bar:
    for name, result in bench2drive.map_routes(convert, todo, workers=workers):
      if isinstance(result, errors.DataError):
        raise result
      bar.update(lengths[name])


def _stage_by_beam(convert, names, flags):
  import apache_beam as beam
  from apache_beam.options import pipeline_options
  options = pipeline_options.PipelineOptions(flags)
  with beam.Pipeline(options=options) as pipeline:
    (pipeline | "Routes" >> beam.Create(names) | beam.Reshuffle()  # pyright: ignore[reportUnusedExpression]
     | "Stage" >> beam.Map(convert))


def _estimate(source, out, options, lengths, todo, workers):
  """One line: what will be made, how big and how long; by a few frames."""
  frames, left = sum(lengths.values()), sum(lengths[name] for name in todo)
  line = f"prepare: {len(lengths)} routes, {frames} frames"
  if not todo:
    return f"{line}, all staged; packing"
  first = next((name for name in todo if lengths[name]), todo[0])
  try:
    seconds, size = _probe(source, options, first,
                           min(PROBE_FRAMES, lengths[first]))
  except errors.DataError:
    return f"{line}, {left} to do; no estimate, {first} cannot be read"
  return (
      f"{line}, {left} to do; estimate: {left * seconds / workers / 60:.0f} "
      f"min with {workers} workers, {frames * size / 1e9:.1f} GB, twice that "
      f"while packing; {shutil.disk_usage(out).free / 1e9:.1f} GB free")


def _length(source, name):
  """Frames of a route; none of one that cannot be used, which staging tells."""
  try:
    return source.length(name)
  except errors.DataError:
    return 0


def _probe(source, options, name, count):
  """(seconds, bytes) of one frame, by the first `count` of a route."""
  if not count:
    raise errors.DataError(f"{name} has no frames")
  start, size = time.perf_counter(), 0
  for t in range(count):
    size += sum(len(records.encode_image(
        source.pixels(name, camera, t, options.size), options.encoding))
        for camera in records.IMAGES)
  return (time.perf_counter() - start) / count, size / count


def _bad_routes(out, names, on_bad_record, skip_cap):
  """Returns {name: why} of the routes to leave out, if that is allowed."""
  bad = stage.unusable(os.path.join(out, "stage"), names)
  fatal = [error for error in bad.values()
           if isinstance(error, bench2drive.MisalignedError)]
  if fatal:
    raise fatal[0]
  allowed = int(np.ceil(skip_cap * len(names)))
  if bad and on_bad_record == "fail" or len(bad) > allowed:
    first, error = next(iter(bad.items()))
    raise errors.DataError(
        f"{len(bad)} of {len(names)} routes cannot be used, "
        f"on_bad_record={on_bad_record} allows "
        f"{allowed if on_bad_record == 'skip' else 0}; first: {first} "
        f"({error.args[0]}); the others are staged: repair and start again")
  return {name: error.args[0] for name, error in bad.items()}


def _check_same(source, out, options, names, val_routes, on_bad_record):
  """Returns the manifest of a finished folder, if it is of this very data."""
  manifest = prepared.read_manifest(out)
  asked = dataclasses.asdict(options) | source.facts() | {
      "horizons": list(options.horizons)}
  made = manifest["options"] | manifest["source"]
  for key, value in asked.items():
    if made.get(key) != value:
      raise errors.ConfigError(
          f"{out} was prepared with {key} {made.get(key)}, now {value} is "
          "asked for; give another --out or remove it")
  routes = {route["name"]: route for route in manifest["routes"]}
  skipped = manifest["skipped"]
  if skipped and on_bad_record == "fail":
    raise errors.ConfigError(
        f"{out} was prepared without {len(skipped)} bad routes, such as "
        f"{min(skipped)}; set on_bad_record=skip, or give another --out")
  gone = sorted({*routes, *skipped} - set(names))
  if gone:
    raise errors.ConfigError(
        f"{out} was prepared with {len(gone)} routes that are not there any "
        f"more, such as {gone[0]}; give another --out or remove it")
  for name in names:
    if name in skipped:
      continue
    if name not in routes:
      raise errors.ConfigError(
          f"{out} was prepared without the route {name}; give another --out "
          "or remove it")
    wanted = "val" if name in val_routes else "train"
    if routes[name]["split"] != wanted:
      raise errors.ConfigError(
          f"{out} was prepared with {name} in {routes[name]['split']}, now it "
          f"is in {wanted}; give another --out or remove it")
    if routes[name]["version"] != source.version(name):
      raise errors.ConfigError(
          f"{out} was prepared from other annotations or labels of {name}; "
          "give another --out or remove it")
  return manifest
