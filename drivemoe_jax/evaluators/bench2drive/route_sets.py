"""The two official closed-loop route sets of Bench2Drive, told apart by id.

Both have 220 routes and share two ids, yet their scores have nothing to do
with each other: `bench2drive220.xml` is what the papers of 2024 to 2026 used,
`bench2drive_0.0.4_val.xml` came with release 0.0.4. `route_sets.json` holds
the sha256 of each XML file and its ids by scenario type. Drives of the embedded
world are a set of their own, as long as it happens to be.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib

from data_pipeline import errors
from data_pipeline.miniworld import names

ROUTES = 220  # of each set; the divisor of every total, whatever was driven
MINIWORLD = "miniworld"


@dataclasses.dataclass(frozen=True)
class RouteSet:
  """One official set.

  Attributes:
    name: of the XML file. sha256: of the XML file.
    types: {route number as a string: scenario type}.
  """

  name: str
  sha256: str
  types: dict[str, str]


@functools.cache
def load():
  """Returns {name: RouteSet} of both official sets."""
  path = pathlib.Path(__file__).with_name("route_sets.json")
  with open(path, encoding="utf-8") as file:
    table = json.load(file)
  return {
      name: RouteSet(name, entry["sha256"], {
          number: kind for kind, numbers in entry["types"].items()
          for number in numbers})
      for name, entry in table.items()}


def identify(numbers, source, wanted=None):
  """The one set that route numbers belong to.

  Args:
    numbers: route numbers, "1711" of "RouteScenario_1711_rep0".
    source: the result file, for messages.
    wanted: name of the set that the caller takes the file for.

  Raises:
    DataError: a route of neither set, or routes of both, or of another set
      than `wanted`; or of both sets alike and `wanted` does not say which.
  """
  sets = load()
  if _are_ours(numbers) and wanted is None:
    return _miniworld(numbers)
  for number in numbers:
    if not any(number in known.types for known in sets.values()):
      raise errors.DataError(
          f"{source}: route {number} is in neither {' nor '.join(sets)}; "
          "official scores are for the official routes")
  fits = [known for known in sets.values()
          if all(number in known.types for number in numbers)]
  if not fits:
    alone = [f"route {_only_in(known, numbers)} is in {known.name} alone"
             for known in sets.values()]
    raise errors.DataError(
        f"{source} mixes route sets: {', '.join(alone)}; score each set's "
        "results apart")
  if wanted is not None:
    fits = [known for known in fits if known.name == wanted]
    if not fits:
      raise errors.DataError(
          f"{source}: route {_stranger(sets[wanted], numbers)} is not in "
          f"{wanted}; leave --route-set out to have the set recognised")
  if len(fits) > 1:
    raise errors.DataError(
        f"{source}: its {len(numbers)} routes are in both "
        f"{' and '.join(sets)}; say which with --route-set")
  return fits[0]


def divisor(numbers):
  """By what totals over these routes are divided."""
  return len(numbers) if _are_ours(numbers) else ROUTES


def _are_ours(numbers):
  return bool(numbers) and all(names.kind_of(n) for n in numbers)


def _miniworld(numbers):
  """The set that drives of the embedded world make; its hash is the list's."""
  types = {n: names.on_routes(names.kind_of(n)) for n in numbers}
  listed = "".join(f"{n}\n" for n in sorted(numbers))
  return RouteSet(MINIWORLD, hashlib.sha256(listed.encode()).hexdigest(),
                  types)


def _stranger(known, numbers):
  """The first number that a set lacks."""
  return next(number for number in numbers if number not in known.types)


def _only_in(known, numbers):
  """The first number that no other set has."""
  others = [other for other in load().values() if other is not known]
  return next(number for number in numbers if number in known.types
              and not any(number in other.types for other in others))
