"""The report's charts: losses over steps, errors over time, confusion."""

import numpy as np
from matplotlib import figure

COLORS = {"model": "#f76707", "constant_velocity": "#868e96",
          "ego_mlp": "#9c36b5", "shuffled_images": "#e03131"}
NAMES = {"model": "the model", "constant_velocity": "constant velocity",
         "ego_mlp": "ego-state-only MLP",
         "shuffled_images": "the model, shuffled images"}
PANELS = (  # title, keys of metrics.jsonl
    ("losses, weighted as trained", ("loss", "loss_action",
                                     "loss_camera_weighted",
                                     "loss_skill_weighted")),
    ("router accuracy on training batches", ("camera_accuracy",
                                             "skill_accuracy")),
)


def curves(stages):
  """Losses and router accuracies of one or two stages, one row each.

  Args:
    stages: [(title, list of the dicts in metrics.jsonl)].
  """
  fig = figure.Figure(
      figsize=(11, 3.4 * len(stages)), dpi=80, layout="constrained")
  rows = fig.subplots(len(stages), len(PANELS), squeeze=False)
  for row, (stage, lines) in zip(rows, stages):
    for axes, (title, keys) in zip(row, PANELS):
      for key in keys:
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
          _smooth_line(axes, *np.array(points, float).T, key)  # pyright: ignore[reportCallIssue]
      axes.set_title(f"{stage}: {title}", fontsize=10)
      axes.set_xlabel("step")
      axes.grid(alpha=0.3)
      axes.spines[["top", "right"]].set_visible(False)
      if axes.lines:
        axes.legend(fontsize=8)
    row[0].set_yscale("log")
    row[1].set_ylim(0, 1.02)
  return fig


def _smooth_line(axes, step, value, label):
  """The raw curve pale, its running mean over a twentieth strong."""
  width = max(1, len(value) // 20)
  pale, = axes.plot(step, value, alpha=0.25, linewidth=0.8)
  total = np.cumsum(np.concatenate([[0.0], value]))
  stop = np.arange(1, len(value) + 1)
  start = np.maximum(stop - width, 0)
  axes.plot(step, (total[stop] - total[start]) / (stop - start),
            color=pale.get_color(), label=label)


def error_over_time(error_at, hz):
  """Mean error at each waypoint: {method: [H] metres}."""
  fig = figure.Figure(figsize=(6.4, 3.6), dpi=80, layout="constrained")
  axes = fig.subplots()
  for method, values in error_at.items():
    axes.plot(np.arange(len(values)) / hz, values, "o-", markersize=3,
              color=COLORS[method], label=NAMES[method])
  axes.set(xlabel="seconds from now", ylabel="mean error [m]")
  axes.set_ylim(bottom=0)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(fontsize=8)
  return fig


def confusion(report, title):
  """A router's confusion matrix, shaded by the share of each label."""
  counts = np.array(report["confusion"])
  names = [entry["name"] for entry in report["classes"]]
  share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  size = 1.9 + 0.62 * len(names)
  fig = figure.Figure(figsize=(size + 0.6, size), dpi=80, layout="constrained")
  axes = fig.subplots()
  axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
  for row, column in np.ndindex(counts.shape):
    if counts[row, column]:
      axes.text(column, row, counts[row, column], ha="center", va="center",
                fontsize=9, color="white" if share[row, column] > 0.5 else "k")
  axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
  axes.set_yticks(range(len(names)), names)
  axes.tick_params(labelsize=9)
  axes.set(xlabel="chosen", ylabel="label")
  axes.set_title(title, fontsize=10)
  return fig
