"""Reads Bench2Drive result files: one evaluator shard, a merged file, a folder.

A file is believed only as a whole: every fault of every record is looked for
before the first number is made of it, and named with its route.
"""

import dataclasses
import hashlib
import os
import re

from data_pipeline import errors, reading, schema
from data_pipeline.infractions import KINDS
from drivemoe_jax.evaluators.bench2drive import route_sets

SCORES = {"score_route": 100.0, "score_penalty": 1.0, "score_composed": 100.0}
SHOWN = 5  # faults in a message
NO_RESULTS = ("merged.json", "_ability.json")  # file endings in a folder


@dataclasses.dataclass(frozen=True)
class Record:
  """What one route's drive came to.

  Attributes:
    number: "1711" of "RouteScenario_1711_rep0".
    scenario: type without its counter; "" if the file does not tell.
    status: as the evaluator wrote it.
    infractions: {kind: strings}; the twelve kinds, and any other.
    completion: 0-100. penalty: 0-1. composed: 0-100.
    save_name: the agent's folder for this route; "" if the file lacks it.
  """

  number: str
  scenario: str
  status: str
  infractions: dict[str, tuple[str, ...]]
  completion: float
  penalty: float
  composed: float
  save_name: str

  @property
  def success(self):
    """Completed without any entry but those of minimum speed."""
    clean = not any(entries for kind, entries in self.infractions.items()
                    if kind != "min_speed_infractions")
    return clean and self.status in ("Completed", "Perfect")


@dataclasses.dataclass(frozen=True)
class Results:
  """The records of one file or folder, one for each route.

  Attributes:
    name: file name without .json, or the folder's name. path: as given.
    sha256: of the file's bytes; of a folder, of its lines `name sha256`.
    records: {number: Record}, the last where a route came twice.
    duplicates: numbers of routes that came more than once.
    raw: the records as read, for a merged file.
    warnings: what the reader should know.
  """

  name: str
  path: str
  sha256: str
  records: dict[str, Record]
  duplicates: tuple[str, ...]
  raw: tuple[dict, ...]
  warnings: tuple[str, ...]


def load(path):
  """Reads a result file, or merges the shards of a folder.

  Shards are taken in the order of their names; of a route that comes twice the
  last record stays. Files called *merged.json and *_ability.json in a folder
  are no shards.

  Raises:
    DataError: no such file, no JSON, no records, or records with faults.
  """
  files = _shards(path) if os.path.isdir(path) else [path]
  documents = [_read(file) for file in files]
  records, raw, warnings = {}, {}, []
  duplicates = []
  for file, (_, document) in zip(files, documents):
    entries = _entries(file, document)
    parsed = _parse(file, entries)
    warnings += _state(file, document, parsed)
    for record, entry in zip(parsed, entries):
      before = records.get(record.number)
      if before is not None:
        duplicates.append(record.number)
        warnings.append(
            f"route {record.number} came twice: {before.composed:g}, then "
            f"{record.composed:g}; the last one counts")
      records[record.number], raw[record.number] = record, entry
  base = os.path.basename(os.path.abspath(path))
  digest = documents[0][0]
  if os.path.isdir(path):
    digest = hashlib.sha256("".join(
        f"{os.path.basename(file)} {digest}\n"
        for file, (digest, _) in zip(files, documents)).encode()).hexdigest()
  return Results(
      name=base.removesuffix(".json"), path=path, sha256=digest,
      records=records, duplicates=tuple(dict.fromkeys(duplicates)),
      raw=tuple(raw[number] for number in records), warnings=tuple(warnings))


def _shards(folder):
  """Paths of a folder's result files, by name."""
  names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
  shards = [name for name in names if not name.endswith(NO_RESULTS)]
  if not shards:
    raise errors.DataError(
        f"{folder} holds no shard; it has "
        f"{', '.join(names[:SHOWN]) or 'no .json file'}; name the folder of "
        "the evaluator's files, or one file")
  return [os.path.join(folder, name) for name in shards]


def _read(path):
  """(sha256, document) of a JSON file."""
  data = reading.content(path, "name a result file or a folder of shards")
  if not data.strip():
    raise errors.DataError(
        f"{path} is empty: the evaluator clears it when it starts, and "
        "stopped before its first route ended; run that shard again")
  try:
    document = reading.parse(data)
  except ValueError as error:
    raise errors.DataError(
        f"{path} is no whole JSON ({error}); copy it again, or run that shard "
        "again") from None
  return hashlib.sha256(data).hexdigest(), document


def _entries(path, document):
  """The list of records in a document."""
  try:
    entries = document["_checkpoint"]["records"]
  except (KeyError, TypeError, IndexError):
    entries = None
  if not isinstance(entries, list):
    raise errors.DataError(
        f"{path} has no _checkpoint.records: it is no result file of the "
        "evaluator; in a folder of shards, move it elsewhere")
  if not entries:
    raise errors.DataError(
        f"{path} has no record: no route ended; run that shard again")
  return entries


def _parse(path, entries):
  """Records of a file, or one DataError that names its faults."""
  records, faults = [], []
  for index, entry in enumerate(entries):
    found = list(_faults(entry))
    if found:
      route = entry.get("route_id") if isinstance(entry, dict) else None
      faults.append(f"{route or f'record {index}'}: {', '.join(found)}")
    else:
      records.append(record_of(entry))
  if faults:
    more = len(faults) - SHOWN
    raise errors.DataError(
        f"{path}: {'; '.join(faults[:SHOWN])}"
        f"{f'; and {more} more' if more > 0 else ''}; run "
        f"{'these routes' if len(faults) > 1 else 'this route'} again")
  return records


def _faults(entry):
  """What is wrong with a record, in words."""
  if not isinstance(entry, dict):
    yield "no object"
    return
  for key in ("route_id", "status", "infractions", "scores"):
    if key not in entry:
      yield f"no {key}"
  if _number(entry) is None:
    yield f"route_id {entry.get('route_id')!r} is not RouteScenario_N_repN"
  if not isinstance(entry.get("status", ""), str):
    yield "status is no text"
  scores = entry.get("scores", {})
  for key, most in SCORES.items():
    value = scores.get(key) if isinstance(scores, dict) else None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0 <= value <= most):  # no NaN is
      yield f"{key} {value!r} is no number from 0 to {most:g}"
  lists = entry.get("infractions", {})
  if not isinstance(lists, dict):
    yield "infractions is no object"
    return
  for kind in KINDS:
    if "infractions" in entry and kind not in lists:
      yield f"no {kind}"
  for kind, strings in lists.items():
    if not (isinstance(strings, list)
            and all(isinstance(string, str) for string in strings)):
      yield f"{kind} is no list of texts"


def _number(entry):
  """"1711" of a record's route_id, or None."""
  match = re.fullmatch(r"RouteScenario_(\d+)_rep\d+",
                       str(entry.get("route_id", "")))
  return match and match[1]


def record_of(entry):
  """Record of an entry without faults; load() looks for those first.

  Args:
    entry: one of a document's _checkpoint.records.
  """
  scores = entry["scores"]
  return Record(
      number=_number(entry),
      scenario=re.sub(r"_\d+$", "", str(entry.get("scenario_name") or "")),
      status=entry["status"],
      infractions={kind: tuple(strings)
                   for kind, strings in entry["infractions"].items()},
      completion=float(scores["score_route"]),
      penalty=float(scores["score_penalty"]),
      composed=float(scores["score_composed"]),
      save_name=str(entry.get("save_name") or ""))


def _state(path, document, records):
  """Warnings about a file as a whole: stopped early, or totals of its own."""
  match document["_checkpoint"].get("progress"):
    case [done, total] if done != total:
      yield f"{path} stopped at {done} of {total} routes"
  score, share = document.get("driving score"), document.get("success rate")
  own = {
      "driving score": (score, sum(r.composed for r in records)),
      "success rate": (share, sum(r.success for r in records))}
  for name, (said, total) in own.items():
    made = total / route_sets.divisor([r.number for r in records])
    if schema.number(said) and not abs(said - made) < 1e-6:
      yield (f"{path} says {name} {said:g}, its records make {made:g}: it was "
             "edited, or not merged by the official script")
