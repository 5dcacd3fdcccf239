"""Two runs on the same routes: paired differences with a bootstrap interval.

Most of a difference between two totals is luck of the routes; taking both runs
route by route leaves out what the routes have in common. The interval resamples
routes. It knows nothing of what another seed of the simulator would change on
a route: repeat both runs to learn that.
"""

import numpy as np

from data_pipeline import errors

RESAMPLES = 10_000
LEVEL = 95.0  # percent


def compare(first, second, *, seed=0):
  """Differences second - first.

  Args:
    first, second: `report.report` of two results on one route set.
    seed: of the resampling.

  Returns:
    {routes, only_first[], only_second[], driving_score, success_rate:
    {difference, low, high}, better, worse, equal: numbers of routes by their
    composed score, per_route[]{route, type, first, second, difference}}; the
    means are over the routes that both have.

  Raises:
    DataError: other route sets, or no route in common.
  """
  if first["route_set"] != second["route_set"]:
    raise errors.DataError(
        f"{first['file']} is on {first['route_set']}, {second['file']} on "
        f"{second['route_set']}; scores on different route sets cannot be "
        "compared")
  ours, theirs = ({entry["route"]: entry for entry in result["per_route"]}
                  for result in (first, second))
  both = [number for number in ours if number in theirs]
  if not both:
    raise errors.DataError(
        f"{first['file']} and {second['file']} have no route in common; "
        "compare runs of the same routes")
  pairs = [{"route": number, "type": ours[number]["type"],
            "first": ours[number]["composed"],
            "second": theirs[number]["composed"],
            "difference": theirs[number]["composed"]
                          - ours[number]["composed"]} for number in both]
  composed = np.array([pair["difference"] for pair in pairs])
  success = np.array([100.0 * (theirs[n]["success"] - ours[n]["success"])
                      for n in both])
  return {
      "routes": len(both),
      "only_first": sorted(ours.keys() - theirs.keys(), key=int),
      "only_second": sorted(theirs.keys() - ours.keys(), key=int),
      "driving_score": _interval(composed, seed),
      "success_rate": _interval(success, seed),
      "better": int((composed > 0).sum()),
      "worse": int((composed < 0).sum()),
      "equal": int((composed == 0).sum()),
      "per_route": sorted(pairs, key=lambda pair: pair["difference"]),
      "resamples": RESAMPLES, "level": LEVEL, "seed": seed,
  }


def _interval(differences, seed):
  """Mean of paired differences, and its percentile bootstrap interval."""
  rng = np.random.default_rng(seed)
  rows = rng.integers(len(differences), size=(RESAMPLES, len(differences)))
  tail = (100 - LEVEL) / 2
  low, high = np.percentile(differences[rows].mean(1), (tail, 100 - tail))
  return {"difference": float(differences.mean()), "low": float(low),
          "high": float(high)}
