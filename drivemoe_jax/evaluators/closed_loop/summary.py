"""What a set of drives says: scores with intervals over seeds, by skill.

The scores are the Bench2Drive scorer's, with the number of drives as the
divisor. An interval resamples seeds, each with all of its scenes, since the
drives of a seed were chosen together. Axes: S seeds, R resamples.
"""

import collections

import numpy as np

from data_pipeline.miniworld import names
from drivemoe_jax.evaluators.bench2drive import records as files
from drivemoe_jax.evaluators.bench2drive import scores

RESAMPLES = 2000
LEVEL = 95.0         # percent


def summarise(records, wanted, seed=0):
  """Scores of a driver's records.

  Args:
    records: as runner.run gives them. wanted: their [(type, seed)].
    seed: of the resampling.

  Returns:
    {episodes, seeds, driving_score, success_rate: {value, low, high}, in
    percent, completion, infractions {kind: {total, routes}}, statuses,
    per_skill {name: {episodes, driving_score, success_rate, completion}},
    per_type (the same), resamples, level}.
  """
  parsed = [files.record_of(entry) for entry in records]
  groups = {"per_skill": collections.defaultdict(list),
            "per_type": collections.defaultdict(list)}
  for row, (kind, number) in zip(parsed, wanted, strict=True):
    groups["per_skill"][names.SKILLS[kind].name.lower()].append((row, number))
    groups["per_type"][kind].append((row, number))
  whole = _scores([(row, number) for row, (_, number)
                   in zip(parsed, wanted)], seed)
  return {
      **whole, "seeds": len({number for _, number in wanted}),
      "infractions": scores.infractions(parsed),
      "statuses": scores.statuses(parsed),
      **{key: {name: _scores(part, seed) for name, part in group.items()}
         for key, group in groups.items()},
      "resamples": RESAMPLES, "level": LEVEL}


def _scores(pairs, seed):
  """Scores of [(Record, seed of its scene)]."""
  rows = [row for row, _ in pairs]
  return {"episodes": len(rows),
          "driving_score": _interval([r.composed for r in rows], pairs, seed),
          "success_rate": _interval([100.0 * r.success for r in rows], pairs,
                                    seed),
          "completion": float(np.mean([r.completion for r in rows]))}


def _interval(values, pairs, seed):
  """{value, low, high}: mean, and percentiles over resampled seeds."""
  sums, counts = collections.defaultdict(float), collections.Counter()
  for value, (_, number) in zip(values, pairs, strict=True):
    sums[number] += value
    counts[number] += 1
  total = np.array([sums[n] for n in sorted(sums)])            # [S]
  count = np.array([counts[n] for n in sorted(sums)])          # [S]
  draws = np.random.default_rng(seed).integers(
      len(total), size=(RESAMPLES, len(total)))                # [R,S]
  means = total[draws].sum(1) / count[draws].sum(1)            # [R]
  tail = (100 - LEVEL) / 2
  low, high = np.percentile(means, (tail, 100 - tail))
  return {"value": float(np.mean(values)), "low": float(low),
          "high": float(high)}


def table(drivers):
  """Text: a line per skill, a column per driver.

  Args:
    drivers: {name: summarise()}.
  """
  first = next(iter(drivers.values()))
  lines = [
      f"closed loop in the embedded world: {first['episodes']} episodes, "
      f"{first['seeds']} seeds, {LEVEL:g} % intervals over seeds "
      "(not Bench2Drive's scores)",
      f"  {'driving score / success %':26}" + "".join(
          f"{name:>30}" for name in drivers)]
  rows = [("all", [d for d in drivers.values()])] + [
      (skill, [d["per_skill"][skill] for d in drivers.values()])
      for skill in first["per_skill"]]
  for name, parts in rows:
    label = f"{name} ({parts[0]['episodes']})"
    lines.append(f"  {label:26}" + "".join(
        f"{_show(part):>30}" for part in parts))
  for name, part in drivers.items():
    told = ", ".join(f"{kind} {found['total']}" for kind, found
                     in part["infractions"].items() if found["total"])
    lines.append(f"  {name}: completion {part['completion']:.1f} %; "
                 f"{told or 'no infraction'}")
  return "\n".join(lines)


def _show(part):
  ds, sr = part["driving_score"], part["success_rate"]
  return (f"{ds['value']:.0f} [{ds['low']:.0f},{ds['high']:.0f}] "
          f"{sr['value']:.0f} [{sr['low']:.0f},{sr['high']:.0f}]")
