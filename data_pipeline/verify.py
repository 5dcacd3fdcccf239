"""Faults of data folders: what they are, how they are gathered and shown.

A check yields a Fault for each thing that is wrong and counts in `checked`
what it has looked at, so that a caller may stop at the first fault or go on
to the last. verify_raw and verify_prepared hold the checks.
"""

import collections
import dataclasses
import itertools
from typing import NamedTuple

from data_pipeline import bench2drive, errors, reading

LIST = "it must list the validation routes, one a line"


class Fault(NamedTuple):
  """One thing that is wrong."""

  check: str                   # what was looked at
  route: str | None
  frame: int | None
  file: str
  message: str                 # with the file and the remedy


@dataclasses.dataclass
class Report:
  """What was looked at and what is wrong with it."""

  routes: int = 0
  frames: int = 0
  checked: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)  # {check: how many}
  faults: list = dataclasses.field(default_factory=list)
  recordings: dict = dataclasses.field(default_factory=dict)  # {name: hash}

  def add(self, part):
    """Joins another report to this one."""
    self.routes += part.routes
    self.frames += part.frames
    self.checked.update(part.checked)
    self.faults += part.faults
    self.recordings |= part.recordings

  def take(self, faults, everything):
    """Adds faults of an iterator: all, or until there is one."""
    self.faults += itertools.islice(
        faults, None if everything else max(1 - len(self.faults), 0))


def gather(check, names, *, everything, workers=1):
  """Runs `check(name) -> Report` over names, in order, and joins the reports.

  Args:
    check: picklable when there are several workers.
    names: of routes or shards.
    everything: go on after the first fault.
  """
  report = Report()
  results = bench2drive.map_routes(check, names, workers=workers)
  try:
    for _, part in results:
      if isinstance(part, errors.DataError):
        raise part
      report.add(part)
      if report.faults and not everything:
        break
  finally:
    results.close()
  return report


def split_faults(val, recordings, checked):
  """Yields the faults of a split: routes on both sides, or recorded twice.

  Args:
    val: names of the validation routes.
    recordings: {name: hash of its numbers} of all routes.
    checked: Counter of what was looked at.
  """
  sides = {}
  for name, digest in recordings.items():
    checked["split"] += 1
    side = "val" if name in val else "train"
    other = sides.setdefault(digest, (side, name))
    if other[0] != side:
      yield Fault("split", name, None, name, (
          f"{name} ({side}) and {other[1]} ({other[0]}) are the same "
          "recording; take one of them out of the data or move it to the "
          "other's side"))


def list_faults(path, present, checked):
  """Yields the faults of a file of validation routes."""
  listed = reading.words(path, LIST)
  for number, name in enumerate(listed, start=1):
    checked["split list"] += 1
    if name not in present:
      yield Fault("split list", name, None, path, (
          f"{path}: {name} is not in the data; fetch it, or take it off the "
          "list"))
    elif name in listed[:number - 1]:
      yield Fault("split list", name, None, path,
                  f"{path}: {name} is listed twice; remove one")


def table(report):
  """The summary, as lines."""
  count = collections.Counter(fault.check for fault in report.faults)
  rows = [("check", "looked at", "faults")] + [
      (check, str(report.checked[check]), str(count[check]))
      for check in sorted({*report.checked, *count})]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}"
          for a, b, c in rows]


def as_json(report, kind, root):
  """The report as one object for --json."""
  count = collections.Counter(fault.check for fault in report.faults)
  return {
      "ok": not report.faults, "kind": kind, "root": root,
      "routes": report.routes, "frames": report.frames,
      "checks": {check: {"checked": report.checked[check],
                         "faults": count[check]}
                 for check in sorted({*report.checked, *count})},
      "faults": [fault._asdict() for fault in report.faults]}
