"""One window as a picture: plan and truth in the road, cameras, routers.

Truth is blue, the plan orange, constant velocity grey, in every panel. Axes:
H steps, 2 = (forward, right) metres.
"""

import numpy as np
from matplotlib import figure, patches

from drivemoe_jax.evaluators import open_loop, routing
from drivemoe_jax.report import projection

PLAN, TRUTH, BLIND = "#f76707", "#1c7ed6", "#868e96"
PATHS = (("constant_velocity", BLIND, "--", "constant velocity"),
         ("gt", TRUTH, "o-", "driven"), ("pred", PLAN, "o-", "planned"))
EXTENT = (-7.0, 15.0, 7.0)  # ground view: metres back, front, to each side
BELOW = 0.55  # of the picture's height, added below for the nearest ground
NEAREST = 2.0  # metres ahead from which a path is drawn on the front camera
HALF_LENGTH, HALF_WIDTH = 2.4, 1.0  # the car, about


def draw(pictures, window):
  """Draws one window.

  Args:
    pictures: {projection.RIG name: uint8 [h,w,3]}.
    window: the row of predictions.npz as a dict, with `title`.

  Returns:
    A matplotlib Figure.
  """
  fig = figure.Figure(figsize=(14, 7.3), dpi=80, layout="constrained")
  top, strip = fig.subfigures(2, 1, height_ratios=[4.9, 1.55])  # pyright: ignore[reportGeneralTypeIssues]
  road, bird, bars = top.subfigures(1, 3, width_ratios=[6.4, 3.3, 4.0])
  fig.suptitle(window["title"], fontsize=12, x=0.01, ha="left")
  _front(road.subplots(), pictures["Front"], window)
  above, ahead = bird.subplots(2, 1, height_ratios=[3.6, 1])
  _bird(above, pictures, window)
  _ahead(ahead, window)
  _bars(bars, window)
  for axes, name in zip(strip.subplots(1, 6), projection.RIG):
    _thumbnail(axes, pictures[name], name, window)
  return fig


def _front(axes, picture, window):
  """The front camera with both paths on the road, and ground below it."""
  axes.imshow(picture, extent=(0, 1, 1, 0), aspect="auto")
  axes.add_patch(patches.Rectangle((0, 1), 1, BELOW, color="#343a40"))
  axes.text(0.01, 1.015, "nearer than the camera sees", va="top",
            color="#ced4da", fontsize=8)
  for path, color, width in ((window["gt"], TRUTH, 1.6),
                             (window["pred"], PLAN, 0.5)):
    band = _band(path, width)
    if band is not None:
      at = projection.project(band, "Front")
      axes.add_patch(patches.Polygon(
          at, closed=True, facecolor=color, alpha=0.55, edgecolor=color))
  dots = projection.project(window["pred"], "Front")
  axes.plot(*dots.T, "o", color="white", markeredgecolor=PLAN, markersize=4)
  axes.set(xlim=(0, 1), ylim=(1 + BELOW, 0), xticks=[], yticks=[])
  axes.set_box_aspect(projection.ASPECT * (1 + BELOW))
  axes.set_title("front camera: driven (blue), planned (orange)", fontsize=9)


def _band(path, width):
  """The visible part of a path as a closed band: [H,2] -> [2K,2] or None."""
  fine = np.linspace(0, len(path) - 1, 8 * len(path))
  path = np.stack([np.interp(fine, np.arange(len(path)), column)
                   for column in path.T], -1)
  path = path[path[:, 0] > NEAREST]
  if len(path) < 2 or np.ptp(path, axis=0).max() < 0.05:
    return None
  ahead = np.gradient(path, axis=0)
  ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
  side = np.stack([-ahead[:, 1], ahead[:, 0]], -1) * width / 2
  return np.concatenate([path + side, (path - side)[::-1]])


def _bird(axes, pictures, window):
  """Seen from above, forward up: the pieced ground and three paths."""
  back, front, side = EXTENT
  axes.imshow(projection.ground_view(pictures, EXTENT), alpha=0.55,
              extent=(-side, side, back, front))
  axes.add_patch(patches.Rectangle(
      (-HALF_WIDTH, -HALF_LENGTH), 2 * HALF_WIDTH, 2 * HALF_LENGTH,
      facecolor="none", edgecolor="black"))
  for name, color, style, label in PATHS:
    axes.plot(window[name][:, 1], window[name][:, 0], style, color=color,
              markersize=3, linewidth=1.6, label=label)
  ahead, right = window["goal"]
  axes.plot(np.clip(right, 0.5 - side, side - 0.5),
            np.clip(ahead, back + 0.5, front - 0.5), "*", color="black",
            markersize=11, label="navigation point")
  axes.set(xlim=(-side, side), ylim=(back, front), aspect="equal",
           ylabel="forward [m]", xticks=range(-6, 7, 3),
           yticks=range(-5, 16, 5))
  axes.legend(fontsize=7, loc="lower left")
  axes.set_title("from above", fontsize=9)
  axes.tick_params(labelsize=7)


def _ahead(axes, window):
  """How far forward over time: shows braking, which a short path hides."""
  time = np.arange(len(window["gt"])) / open_loop.HZ
  for name, color, style, _ in PATHS:
    axes.plot(time, window[name][:, 0], style, color=color, markersize=2)
  axes.set(xlabel="seconds from now")
  axes.set_ylabel("forward [m]", fontsize=8)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(labelsize=7)


def _bars(panel, window):
  """Both routers' probabilities; the label's name is blue and marked."""
  names = {"camera": routing.CAMERA_NAMES, "skill": routing.SKILL_NAMES}
  rows = panel.subplots(2, 1, gridspec_kw={"height_ratios": [5, 7]})
  for axes, (router, classes) in zip(rows, names.items()):
    axes.set_title(f"{router} router", fontsize=9)
    logits, label = window.get(f"{router}_logits"), int(window[router])
    if logits is None:
      axes.axis("off")
      axes.text(0, 0.5, "this model has none", fontsize=9)
      continue
    classes = routing.class_names(classes, len(logits))[:len(logits)]
    share = np.exp(logits - logits.max())
    share /= share.sum()
    chosen = share.argmax()
    colors = [PLAN if i == chosen else "#ced4da" for i in range(len(classes))]
    bars = axes.barh(range(len(classes)), share, color=colors)
    axes.bar_label(bars, [f"{p:.2f}" for p in share], fontsize=8, padding=2)
    axes.set_yticks(range(len(classes)), [
        f"label ▸ {name}" if i == label else name
        for i, name in enumerate(classes)], fontsize=8)
    if 0 <= label < len(classes):
      axes.get_yticklabels()[label].set_color(TRUTH)
    axes.set(xlim=(0, 1.18), xticks=[])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _thumbnail(axes, picture, name, window):
  """A camera; an orange frame where chosen, a blue name where labelled."""
  axes.imshow(picture, extent=(0, 1, 1, 0), aspect="auto")
  axes.set_box_aspect(projection.ASPECT)
  axes.set(xticks=[], yticks=[])
  view = dict(enumerate(routing.CAMERA_NAMES))
  chosen = view.get(int(window["view"])) == name
  labelled = view.get(int(window["camera"])) == name
  axes.spines[:].set(color=PLAN if chosen else "#ced4da",
                     linewidth=5 if chosen else 0.5)
  marks = [m for m, on in (("chosen", chosen), ("label", labelled)) if on]
  axes.set_title(f"{name}: {', '.join(marks)}" if marks else name, fontsize=9,
                 color=TRUTH if labelled else PLAN if chosen else "black",
                 fontweight="bold" if marks else "normal")
