"""Readers of results: official scores, evaluations, predictions."""

import json

import numpy as np
from PIL import Image

from drivemoe_jax import report as page
from drivemoe_jax.evaluators import side_by_side, suite
from drivemoe_jax.evaluators.bench2drive import (
    compare,
    records,
    report,
    text,
)
from drivemoe_jax.report import examples, projection, source
from tests.evaluators import worlds
from tests.evaluators.bench2drive import drives
from tests.fuzz import edits
from tests.fuzz.trial import Reader

JSON = edits.Json()
NPZ = edits.Zip(npy=edits.Npy())


def _results(folder):
  numbers = list(drives.OLD.types)[:4]
  drives.write(folder / "merged.json", drives.shard(
      *(drives.entry(number, min_speed_infractions=[drives.SPEED.format(80)],
                     outside_route_lanes=[drives.LANES.format(3)],
                     penalty=0.5) for number in numbers)))
  for number in numbers[:2]:
    (folder / f"r{number}").mkdir()
    (folder / f"r{number}" / "metric_info.json").write_text(json.dumps({
        str(2 * t): dict.fromkeys(
            ("acceleration", "angular_velocity", "forward_vector",
             "right_vector"), [0.1 * t, 1.0, 0.0]) for t in range(25)}))


def _result_files(folder):
  return {str(path.relative_to(folder)): JSON
          for path in sorted(folder.rglob("*.json"))}


def _score(folder):
  found = records.load(str(folder / "merged.json"))
  result = report.report(found, partial=True)
  text.scores(result)
  json.dumps(result, allow_nan=False)
  json.dumps(report.merged(found))
  compare.compare(result, result, seed=0)


def _evaluation(folder):
  of = worlds.windows(routes=3, frames=6)
  scores, arrays = suite.evaluate(
      worlds.sighted, worlds.loader(of, 16), of, of,
      to_metres=lambda action: 10 * action)
  scores |= {"step": 7, "split": "val", "flow_steps": 10, "seed": 0}
  (folder / "evaluation.json").write_text(json.dumps(scores))
  np.savez_compressed(folder / "predictions.npz", data_root="data/routes",
                      **arrays)
  (folder / "config.json").write_text('{"model": {"layers": 3}}')
  (folder / "metrics.jsonl").write_text("\n".join(
      json.dumps({"step": s, "loss": 9.0 - s}) for s in range(4)))
  picture = Image.new("RGB", (32, 18), "grey")
  for route in of.routes:
    for camera in projection.RIG.values():
      place = folder / "data" / "routes" / route / "camera" / camera
      place.mkdir(parents=True)
      for frame in range(6):
        picture.save(place / f"{frame:05d}.jpg")


def _compare(folder):
  one = side_by_side.load(str(folder))
  side_by_side.table(side_by_side.compare(one, one), ("a", "b"))


def _draw(folder):
  """What the report reads, without drawing it, which takes seconds."""
  workdir = str(folder)
  predictions = source.read_predictions(workdir)
  source.read_json(workdir, "evaluation.json", "evaluate first")
  source.read_json(workdir, "config.json", "train first")
  source.read_metrics(workdir)
  for window, _ in examples.choose(predictions)[:2]:
    source.read_pictures(workdir, predictions, window)


def _whole_page(folder):
  page.write([str(folder)], str(folder / "report.html"))


RUN_FILES = {"evaluation.json": JSON, "predictions.npz": NPZ,
             "config.json": JSON, "metrics.jsonl": edits.JsonLines()}
READERS = (
    Reader("result files", _results, _result_files, _score, share=4,
           quick=16),
    Reader("evaluation", _evaluation, {"evaluation.json": JSON}, _compare,
           share=1, quick=10),
    Reader("report files", _evaluation, RUN_FILES, _draw, share=1.5, quick=10),
    Reader("report", _evaluation, RUN_FILES, _whole_page, share=0.003,
           quick=1),
)
