"""Which skill experts work: names for the router's numbers, and the dead.

One router serves all layers with experts, as released, so that a run has one
set of numbers and each of them holds for every such layer.

Axes: E skill experts.
"""

import numpy as np

from data_pipeline import spec

VECTORS = ("expert_load", "expert_weight")


class Experts:
  """Counts the updates for which each expert has not been picked.

  Starts anew with the process: a resumed run warns after a whole window.
  """

  def __init__(self, window, say):
    """window: updates without a pick that make an expert dead, 0 for never.

    Args:
      say: prints a line.
    """
    self._window, self._say, self._idle = window, say, None

  def __call__(self, step, values):
    """Metrics of one update with a number per expert in place of vectors.

    Args:
      values: of losses.total. Models without skill router pass through.

    Returns:
      `expert_load/<name>`, `expert_weight/<name>` and, if there is a window,
      `dead_experts`; the other values unchanged.
    """
    if "expert_load" not in values:
      return values
    vectors = {key: np.asarray(values[key]) for key in VECTORS}
    names = expert_names(len(vectors["expert_load"]))
    named = {key: x for key, x in values.items() if key not in VECTORS}
    named |= {f"{key}/{name}": float(x) for key, vector in vectors.items()
              for name, x in zip(names, vector)}
    if self._window:
      named["dead_experts"] = self._count(step, names, vectors["expert_load"])
    return named

  def _count(self, step, names, load):
    if self._idle is None:
      self._idle = np.zeros(len(load), int)
    if np.isfinite(load).all():  # else the update was skipped
      self._idle = np.where(load > 0, 0, self._idle + 1)
      for expert in np.flatnonzero(self._idle == self._window):
        self._say(
            f"W-MOE: step {step}: skill expert {expert} ({names[expert]}) got "
            f"no pick for {self._window} updates and learns nothing; look at "
            "its labels, or set data.skill_balance")
    return int((self._idle >= self._window).sum())


def expert_names(count):
  """Skills where there is an expert for each, else numbers."""
  if count == len(spec.Skill):
    return [skill.name.lower() for skill in spec.Skill]
  return [str(i) for i in range(count)]
