"""Builds the page: one HTML file with everything inside it."""

import base64
import html
import io
import os

from data_pipeline import errors
from drivemoe_jax.evaluators import open_loop, subsets
from drivemoe_jax.report import (
  drives,
  examples,
  plots,
  scenes,
  source,
  tables,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px;
       margin: 2em auto; padding: 0 1em; color: #212529; background: white; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; font-size: 1.25em;
     border-bottom: 1px solid #dee2e6; }
img { max-width: 100%; } .scene { margin: 1.5em 0; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: 0.25em 0.8em; border-bottom: 1px solid #e9ecef;
         text-align: right; } th:first-child, td:first-child
         { text-align: left; } th { background: #f8f9fa; }
.tiles { display: flex; flex-wrap: wrap; gap: 1em; }
.tile { border: 1px solid #dee2e6; border-radius: 6px; padding: 0.6em 1em; }
.tile b { display: block; font-size: 1.5em; }
.note { background: #fff9db; border-left: 4px solid #fab005;
        padding: 0.6em 1em; } dt { font-weight: 600; }
.row { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }
details { margin: 1em 0; }
"""
NOTE = """These windows may come from the embedded miniworld or from recorded
routes of your own. Miniworld scores are not comparable with published
Bench2Drive scores: the world, its pictures and its traffic are far simpler.
Compare numbers only between runs on the same windows (same sha256 below)."""


def write(workdirs, out, progress=lambda text: None):
  """Writes the report of a run.

  Args:
    workdirs: run folders in the order of training; the last one must have
      been evaluated, all give loss curves. Closed-loop scores and a film are
      shown where the last one holds them.
    out: the HTML file; replaced as a whole.
    progress: called with a line of text now and then.

  Returns:
    The number of windows shown.

  Raises:
    DataError: evaluation, predictions, log or pictures missing or broken;
      closed-loop scores or film broken.
  """
  last = workdirs[-1]
  predictions = source.read_predictions(last)
  scores = source.read_json(last, "evaluation.json", source.EVALUATE + last)
  config = source.read_json(last, "config.json", "train first")
  stages = [(os.path.basename(os.path.normpath(w)), source.read_metrics(w))
            for w in workdirs]
  shown = examples.choose(predictions)
  title = f"DriveMoE run: {os.path.basename(os.path.normpath(last))}"
  try:
    above, below = _scores(scores, config, stages), tables.definitions(scores)
  except (LookupError, TypeError, ValueError, AttributeError,
          RecursionError) as error:
    raise errors.DataError(
        f"{last}: evaluation.json, config.json or metrics.jsonl is not what "
        f"this version writes ({type(error).__name__}: {error}); "
        f"{source.EVALUATE}{last}") from error
  driven = drives.section(last, scores["step"])
  pictures = []
  for count, (window, why) in enumerate(shown, 1):
    pictures.append(_scene(last, predictions, window, why))
    progress(f"picture {count} of {len(shown)}")
  body = "\n".join([
      f"<h1>{html.escape(title)}</h1>", f"<p class=note>{NOTE}</p>", *above[:1],
      driven, *above[1:],
      "<h2>What it did</h2>", f"<p>{_LEGEND}</p>", *pictures,
      "<h2>What the words mean</h2>", below])
  text = ("<!doctype html><html lang=en><head><meta charset=utf-8>"
          f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
          f"<body>{body}</body></html>\n")
  part = f"{out}.part"
  with open(part, "w", encoding="utf-8", errors="replace") as file:
    file.write(text)
  os.replace(part, out)
  return len(shown)


def _scores(scores, config, stages):
  """All of the page that comes from numbers, in its order."""
  return [_tiles(scores), tables.config(config), "<h2>Training</h2>",
          _image(plots.curves(stages), "loss curves"), _errors(scores),
          _routers(scores), _shuffled(scores)]


_LEGEND = """Blue is what the expert drove, orange what the model planned, grey
constant velocity. In the strip of cameras an orange frame marks the view that
the model chose, a blue name the labelled one (no side view needed counts as
Back). The ground seen from above is pieced together from the six cameras, so
whatever stands upright is smeared outwards."""


def _scene(workdir, predictions, window, why):
  """One example as HTML."""
  row = {name: array[window] for name, array in predictions.items()
         if name != "data_root"}
  error = open_loop.ade(row["pred"][None], row["gt"][None])
  row["title"] = (f"{why}: {row['route']}, frame {row['frame']}, "
                  f"{row['speed']:.1f} m/s, mean error {error:.2f} m")
  figure = scenes.draw(source.read_pictures(workdir, predictions, window), row)
  return f"<div class=scene>{_image(figure, row['title'])}</div>"


def _image(figure, alt):
  """A figure as an <img> that carries its own bytes."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  data = base64.b64encode(buffer.getvalue()).decode()
  return (f'<img alt="{html.escape(alt, quote=True)}" '
          f'src="data:image/png;base64,{data}">')


def _tiles(scores):
  """The few numbers to look at first."""
  model = scores["open_loop"]
  tiles = [("average displacement error", f"{model['ade']:.3f} m"),
           ("final displacement error", f"{model['fde']:.3f} m")]
  if "avg_l2" in model:
    tiles.append(("Avg L2 (2 s at 2 Hz)", f"{model['avg_l2']:.3f} m"))
  cv = scores["yardsticks"]["constant_velocity"]["model_lower_by_percent"]
  mlp = scores["yardsticks"]["ego_mlp"]["model_ratio"][subsets.CRITICAL]
  tiles += [("below constant velocity", tables.number(cv, "{:.0f} %")),
            ("of the ego MLP's error where it turns or begins to brake",
             tables.number(mlp, "{:.2f}"))]
  for name, report in scores["routers"].items():
    if report:
      tiles.append((f"{name} router, macro F1", f"{report['macro_f1']:.2f}"))
  tiles.append(("windows", f"{scores['n']}"))
  return "<div class=tiles>" + "".join(
      f"<div class=tile><b>{value}</b>{html.escape(name)}</div>"
      for name, value in tiles) + "</div>"


def _errors(scores):
  """Errors against the yardsticks: chart and table."""
  methods = tables.methods(scores)
  chart = plots.error_over_time(
      {name: part["error_at"] for name, part in methods.items()}, open_loop.HZ)
  return ("<h2>Open-loop errors</h2>" + tables.errors(methods)
          + f"<div class=row>{_image(chart, 'error over time')}"
          f"{tables.official(scores)}</div>" + tables.per_skill(methods))


def _routers(scores):
  """Both routers' reports."""
  parts = ["<h2>Routers</h2>"]
  for name, report in scores["routers"].items():
    if report is None:
      parts.append(f"<p>No {name} router, or no labels to judge it by.</p>")
      continue
    chart = plots.confusion(report, f"{name} router")
    parts.append(f"<div class=row>{_image(chart, f'{name} confusion matrix')}"
                 f"{tables.router(report)}</div>")
  return "".join(parts)


def _shuffled(scores):
  """Does the model look?"""
  if scores["shuffled_images"] is None:
    return ""
  return "<h2>Does it look?</h2>" + tables.shuffled(scores["shuffled_images"])
