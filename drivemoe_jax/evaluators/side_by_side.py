"""Two evaluations next to each other, if they are of the same windows.

Open-loop errors depend on the windows as much as on the driver: another split,
limit or horizon gives other windows, and the difference would say nothing.
"""

import os

from data_pipeline import errors, reading, schema

METRICS = ("ade", "fde", "avg_l2", "l2_1.9s_approx", "official_l1",
           "official_mse")
_LISTS = dict.fromkeys(("seconds", "at", "mean_up_to"), [schema.number])
SCHEMA = {"windows_sha256": str, "horizon": schema.count, "n": schema.count,
          "open_loop": dict.fromkeys(METRICS, schema.Maybe(schema.number))
          | {"protocol": schema.Maybe(_LISTS)}}
# Another value is worth knowing.
SETTINGS = ("flow_steps", "seed", "noise_scale")
DEFINITIONS = {
    "difference": "second - first, in metres (official_mse in square metres): "
                  "negative where the second is better",
}


def load(path):
  """evaluation.json of a run folder, or a file of that kind.

  Raises:
    DataError: no such file, or it holds no evaluation.
  """
  if os.path.isdir(path):
    path = os.path.join(path, "evaluation.json")
  scores = reading.json_file(path, "run launch.evaluate first",
                             is_no="is no whole JSON", mend="evaluate again")
  why = schema.fault(scores, SCHEMA, "the evaluation")
  if why:
    raise errors.DataError(
        f"{path} holds no evaluation with a window hash ({why}); evaluate "
        "again")
  return scores


def compare(first, second):
  """Differences of two evaluations of the same windows.

  Args:
    first, second: what `load` returns.

  Returns:
    {n, horizon, windows_sha256, metrics{name: {first, second, difference}},
    protocol{at, mean_up_to: the same, in lists} or None, settings{name:
    [first, second]} that differ}.

  Raises:
    DataError: the windows differ.
  """
  if first["windows_sha256"] != second["windows_sha256"]:
    sides = " against ".join(
        f"{s['n']} {s.get('split', '')} windows of {s.get('routes', '?')} "
        f"routes at horizon {s['horizon']} ({s['windows_sha256'][:12]})"
        for s in (first, second))
    raise errors.DataError(
        f"other windows: {sides}; evaluate both on the same routes with the "
        "same --split, --limit and horizon")
  one, other = first["open_loop"], second["open_loop"]
  protocol = None
  if one.get("protocol") and other.get("protocol"):
    protocol = {"seconds": one["protocol"]["seconds"]} | {
        reading: [_row(*pair) for pair in zip(one["protocol"][reading],
                                              other["protocol"][reading])]
        for reading in ("at", "mean_up_to")}
  return {
      "n": first["n"], "horizon": first["horizon"],
      "windows_sha256": first["windows_sha256"],
      "metrics": {name: _row(one[name], other[name]) for name in METRICS
                  if None not in (one.get(name), other.get(name))},
      "protocol": protocol,
      "settings": {name: [first[name], second[name]] for name in SETTINGS
                   if first.get(name) != second.get(name)},
      "definitions": DEFINITIONS,
  }


def _row(first, second):
  return {"first": first, "second": second, "difference": second - first}


def table(result, names):
  """The comparison as text; `names` are those of the two sides."""
  first, second = names
  lines = [f"{second} - {first}: {result['n']} windows, "
           f"{result['horizon']} waypoints, windows "
           f"{result['windows_sha256'][:12]}",
           f"{'[m], lower is better':28}{'first':>10}{'second':>10}"
           f"{'difference':>12}"]
  lines += [_line(name, row) for name, row in result["metrics"].items()]
  if result["protocol"]:
    for reading in ("at", "mean_up_to"):
      lines += [_line(f"L2 {reading.replace('_', ' ')} {t} s", row)
                for t, row in zip(result["protocol"]["seconds"],
                                  result["protocol"][reading])]
  lines += [f"W-DATA: {name} is {one} against {other}"
            for name, (one, other) in result["settings"].items()]
  return "\n".join(lines)


def _line(name, row):
  return (f"{name:28}{row['first']:10.4f}{row['second']:10.4f}"
          f"{row['difference']:+12.4f}")
