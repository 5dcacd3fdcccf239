"""Scores against disturbance as a plot."""

import matplotlib.figure

from drivemoe_jax.evaluators.closed_loop import robustness


def plot(sweep, path):
  """Draws both scores of a robustness.gather() against severity, as a PNG."""
  figure = matplotlib.figure.Figure((9, 3.6), layout="constrained")
  for axes, (key, title) in zip(figure.subplots(1, 2), robustness.SCORES):
    for shift, (kind, rows) in enumerate(sweep.items()):
      value = [row[key]["value"] for row in rows]
      # The interval of a single seed is the value, but for rounding.
      low = [max(row[key]["value"] - row[key]["low"], 0.0) for row in rows]
      high = [max(row[key]["high"] - row[key]["value"], 0.0) for row in rows]
      axes.errorbar([row["severity"] + 0.04 * (shift - 2) for row in rows],
                    value, (low, high), marker="o", capsize=2, label=kind)
    axes.set(xlabel="severity", ylabel=title, xticks=range(4), ylim=(0, 103))
  axes.legend(frameon=False)  # pyright: ignore[reportPossiblyUnboundVariable]
  figure.savefig(path, format="png", dpi=110)
