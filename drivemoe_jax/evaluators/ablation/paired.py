"""Differences between two variants that drove the same scenes.

Both were trained from the same seeds and met the same episodes, so that the
difference is taken drive by drive. The interval draws seeds and episodes anew,
independently: both could have been others. Axes: S seeds, E episodes, R draws.
"""

import numpy as np

RESAMPLES = 4000
LEVEL = 90.0         # percent


def difference(ours, theirs, seed=0):
  """Mean of ours - theirs, with its interval.

  Args:
    ours, theirs: {seed: {episode: score}}; seeds and episodes that only one
      has are left out.
    seed: of the draws.

  Returns:
    {value, low, high, seeds, episodes, level}, or None without a common pair.
  """
  seeds = sorted(set(ours) & set(theirs))
  shared = [set(side[s]) for side in (ours, theirs) for s in seeds]
  episodes = sorted(set.intersection(*shared)) if shared else []
  if not episodes:
    return None
  gap = np.array([[ours[s][e] - theirs[s][e] for e in episodes]
                  for s in seeds])                             # [S,E]
  rng = np.random.default_rng(seed)
  s = rng.integers(len(seeds), size=(RESAMPLES, len(seeds)))   # [R,S]
  e = rng.integers(len(episodes), size=(RESAMPLES, len(episodes)))
  count = np.zeros((RESAMPLES, len(seeds)))                    # [R,S]
  np.add.at(count, (np.arange(RESAMPLES)[:, None], s), 1.0 / len(seeds))
  means = np.array([(c @ gap)[row].mean() for c, row in zip(count, e)])  # [R]
  tail = (100 - LEVEL) / 2
  low, high = np.percentile(means, (tail, 100 - tail))
  return {"value": float(gap.mean()), "low": float(low), "high": float(high),
          "seeds": len(seeds), "episodes": len(episodes), "level": LEVEL}


def spread(values):
  """(mean, standard deviation over seeds or None for one): [S] -> pair."""
  values = np.asarray(values, float)
  return (float(values.mean()),
          float(values.std(ddof=1)) if len(values) > 1 else None)
