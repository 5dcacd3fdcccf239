"""The report's tables, as HTML strings from the scores of evaluation.json."""

import html

from drivemoe_jax.evaluators import subsets
from drivemoe_jax.report import plots

SUBSETS = {"all": "all windows", "turns": "turning",
           "begins_to_brake": "beginning to brake",
           subsets.CRITICAL: "turning or beginning to brake"}


def number(value, form="{:.3f}"):
  """A number, or a dash where there is none."""
  return "–" if value is None else form.format(value)


def table(head, rows):
  """An HTML table; cells are text."""
  def line(cells, tag):
    return "<tr>" + "".join(
        f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

  return ("<table>" + line(head, "th")
          + "".join(line(row, "td") for row in rows) + "</table>")


def methods(scores):
  """{method: its open-loop scores}, the model first."""
  result = {"model": scores["open_loop"]} | {
      name: part["open_loop"] for name, part in scores["yardsticks"].items()}
  if scores["shuffled_images"]:
    result["shuffled_images"] = scores["shuffled_images"]["open_loop"]
  return result


def errors(parts):
  """ADE and FDE of every method on every subset."""
  head = ["ADE / FDE [m]"] + [
      f"{title} (n={parts['model']['subsets'][name]['n']})"
      if parts["model"]["subsets"][name] else f"{title} (none)"
      for name, title in SUBSETS.items()]
  return table(head, [
      [plots.NAMES[method], *(_ade_fde(part["subsets"][name])
                              for name in SUBSETS)]
      for method, part in parts.items()])


def per_skill(parts):
  """ADE and FDE of every method, by the window's skill label."""
  skills = [name for name, part in parts["model"]["per_skill"].items() if part]
  return table(["ADE / FDE [m]", *(
      f"{name} (n={parts['model']['per_skill'][name]['n']})"
      for name in skills)], [
          [plots.NAMES[method], *(_ade_fde(part["per_skill"][name])
                                  for name in skills)]
          for method, part in parts.items()])


def _ade_fde(part):
  return f"{part['ade']:.3f} / {part['fde']:.3f}" if part else "–"


def official(scores):
  """The release's own numbers, and Avg L2 or its stand-in if there is one."""
  model = scores["open_loop"]
  rows = [(name, number(model[name], "{:.4f}"))
          for name in ("avg_l2", "l2_1.9s_approx", "official_l1",
                       "official_mse") if name in model]
  rows += [(f"official_accuracy at {limit}", number(share))
           for limit, share in model["official_accuracy"].items()]
  return table(["the release's numbers", "model"], rows)


def router(report):
  """Precision, recall and F1 per class, and their means."""
  keys = ("precision", "recall", "f1")
  rows = [[entry["name"], *(number(entry[k], "{:.2f}") for k in keys),
           entry["support"]] for entry in report["classes"]]
  for prefix, title in (("macro", "mean over labelled classes"),
                        ("official_macro", "mean over all classes"),
                        ("weighted", "mean weighted by support")):
    rows.append([title, *(number(report[f"{prefix}_{k}"], "{:.2f}")
                          for k in keys), report["n"]])
  rows.append(["accuracy", "", "", number(report["accuracy"], "{:.2f}"),
               report["n"]])
  return table(["class", *keys, "support"], rows)


def shuffled(part):
  """What shuffled images cost."""
  rows = [[f"error, {SUBSETS[name]}", number(value, "{:+.0f} %")]
          for name, value in part["ade_increase_percent"].items()]
  rows += [[f"{name} router accuracy", number(value, "{:.1f} points lost")]
           for name, value in part["accuracy_drop_points"].items()]
  return ("<p>Every window is shown the images of another route; ego state, "
          "navigation point and labels stay. A model that drives by its ego "
          "state alone would not notice.</p>" + table(["", "change"], rows))


def config(values):
  """The whole configuration, folded away."""
  rows = []

  def walk(prefix, part):
    for key, value in part.items():
      if isinstance(value, dict):
        walk(f"{prefix}{key}.", value)
      else:
        rows.append([prefix + key, value])

  walk("", values)
  return ("<details><summary>Configuration</summary>"
          f"{table(['key', 'value'], rows)}</details>")


def definitions(scores):
  """What each number means, and which windows it was taken on."""
  items = [("step, split, flow steps, seed", ", ".join(
      str(scores[k]) for k in ("step", "split", "flow_steps", "seed"))),
           ("windows_sha256", scores["windows_sha256"])]
  for group, entries in scores["definitions"].items():
    if isinstance(entries, str):
      items.append((group, entries))
    else:
      items += [(f"{group}: {name}", text) for name, text in entries.items()]
  return "<dl>" + "".join(
      f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
      for name, text in items) + "</dl>"
