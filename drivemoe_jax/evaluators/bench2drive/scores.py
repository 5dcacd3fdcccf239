"""Driving Score, Success Rate, Efficiency and penalties of result records.

All as the official tools count them: totals are divided by 220, however many
routes there are, so that a missing route scores 0. Drives of the embedded world
are divided by their own number.
"""

import collections
import math
import re

from data_pipeline.infractions import FACTORS
from drivemoe_jax.evaluators.bench2drive import route_sets

TOLERANCE = 2e-3  # the strings round the share of lanes left to 0.01 %
FASTEST = 1000.0  # percent; the official script drops values above
PERCENT = re.compile(r"\b(\d+\.?\d*)%")


def driving_score(records):
  """Sum of the composed scores / 220: 0-100."""
  return math.fsum(r.composed for r in records) / _divisor(records)


def success_rate(records):
  """Successes / 220 in percent."""
  return 100 * sum(r.success for r in records) / _divisor(records)


def _divisor(records):
  return route_sets.divisor([r.number for r in records])


def penalty(record):
  """The penalty that a record's infraction strings make.

  Returns:
    0-1, or None where the share of lanes left cannot be read from its string.
  """
  product = 1.0
  for kind, factor in FACTORS.items():
    product *= factor ** len(record.infractions[kind])
  for text in record.infractions["outside_route_lanes"]:
    share = PERCENT.search(text)
    if share is None:
      return None
    product *= 1 - float(share[1]) / 100
  return product


def check_penalties(records):
  """Derives every penalty and composed score anew.

  Returns:
    {checked, max_difference or None, mismatches[]{route, stored, derived}}: a
    mismatch is a penalty off by more than TOLERANCE or that cannot be derived
    (null), or a composed score that is not completion * penalty.
  """
  largest, mismatches = None, []
  for record in records:
    derived = penalty(record)
    if derived is not None:
      largest = max(largest or 0.0, abs(derived - record.penalty))
    whole = max(record.completion * record.penalty, 0.0)
    if (derived is None or abs(derived - record.penalty) > TOLERANCE
        or abs(whole - record.composed) > 1e-3):
      mismatches.append({"route": record.number, "stored": record.penalty,
                         "derived": derived})
  return {"checked": len(records), "max_difference": largest,
          "mismatches": mismatches}


def efficiency(records):
  """Mean speed in percent of the surrounding traffic's.

  The mean over a route's values up to 1000 %, then over the routes that have
  any: the official script would divide by zero for a route without.

  Returns:
    (percent or None, {route number: percent}, numbers of routes with a string
    that holds no percentage).
  """
  routes, unread = {}, []
  for record in records:
    found = [PERCENT.search(text)
             for text in record.infractions["min_speed_infractions"]]
    if None in found:
      unread.append(record.number)
    values = [float(match[1]) for match in found if match]
    values = [value for value in values if value <= FASTEST]
    if values:
      routes[record.number] = math.fsum(values) / len(values)
  mean = math.fsum(routes.values()) / len(routes) if routes else None
  return mean, routes, unread


def infractions(records):
  """{kind: {total, routes}}: entries, and routes with any."""
  totals = {}
  for record in records:
    for kind, entries in record.infractions.items():
      total = totals.setdefault(kind, {"total": 0, "routes": 0})
      total["total"] += len(entries)
      total["routes"] += bool(entries)
  return totals


def statuses(records):
  """{status: number of routes}, the commonest first."""
  counts = collections.Counter(record.status for record in records)
  return dict(counts.most_common())
