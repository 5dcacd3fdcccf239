"""Plans sampled in the two-mode scene, from above, a panel per variant.

Forward is up. The expert's two drives are black, plans take the colour of where
they end.
"""

import matplotlib.figure
import numpy as np

from drivemoe_jax.evaluators.ablation import modes, page, variants

COLORS = {"left": "#1c7ed6", "between": "#e03131", "right": "#2f9e44"}
COLUMNS = 4


def plot(rows, target):
  """Draws all plans of all seeds, as a PNG.

  Args:
    rows: {name: raw row}. target: a path or a file.
  """
  groups = [(v.name, part) for v in variants.VARIANTS if (part := [
      row for row in rows.values() if row["variant"] == v.name])]
  lines = -(-len(groups) // COLUMNS)
  figure = matplotlib.figure.Figure(
      (2.6 * min(len(groups), COLUMNS) + 0.6, 3.3 * lines),
      layout="constrained")
  panels = list(figure.subplots(
      lines, min(len(groups), COLUMNS), squeeze=False, sharex=True,
      sharey=True).flat)
  for axes, (name, part) in zip(panels, groups):
    _panel(axes, part)
    between = np.mean([page.share(row, "between") for row in part])
    axes.set_title(f"{name}: {100 * between:.0f} % between", fontsize=9)
  for axes in panels[len(groups):]:
    axes.axis("off")
  figure.supxlabel("right [m]", fontsize=8)
  figure.supylabel("forward [m]", fontsize=8)
  figure.savefig(target, format="png", dpi=100)


def _panel(axes, part):
  for row in part:
    for scene in row["modes"]:
      left, right = np.array(scene["left"]), np.array(scene["right"])
      for plan in np.array(scene["plans"]):               # [H,2]
        shares = modes.shares(plan[None], left, right)
        axes.plot(plan[:, 1], plan[:, 0], linewidth=0.5, alpha=0.5,
                  color=COLORS[max(shares, key=shares.__getitem__)])
      for path in (left, right):
        axes.plot(path[:, 1], path[:, 0], color="black", linewidth=1.2)
  axes.set(xlim=(-3.5, 3.5))
  axes.tick_params(labelsize=7)
  axes.grid(alpha=0.3)
