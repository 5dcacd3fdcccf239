"""Scores of result files as text for a terminal."""

from drivemoe_jax.evaluators.bench2drive import published

SHOWN = 10  # routes in a list, and of a comparison at either end
TITLES = {"driving_score": "DS", "success_rate": "SR %",
          "efficiency": "efficiency", "comfort": "comfort",
          "avg_l2": "avg L2 m"}


def scores(result):
  """One result: which file and routes, the headline, what went wrong."""
  count = result["routes"]
  lines = [
      f"{result['file']}: {result['route_set']}, {count} of "
      f"{count + len(result['missing'])} routes"
      + ("" if result["complete"] else " - PARTIAL"),
      f"  sha256 of the results   {result['sha256']}",
      f"  sha256 of the route set {result['route_set_sha256']}"]
  if result["missing"]:
    lines.append(f"  missing: {_few(result['missing'])}")
  if result["duplicates"]:
    lines.append(f"  came twice: {_few(result['duplicates'])}")
  lines += _headline(result)
  lines.append("  infractions, entries (routes): " + _join(
      f"{kind} {part['total']} ({part['routes']})"
      for kind, part in result["infractions"].items() if part["total"]))
  lines.append("  status: " + _join(
      f"{status} {number}" for status, number in result["statuses"].items()))
  penalties = result["penalties"]
  largest = penalties["max_difference"]
  lines.append(
      f"  penalties derived from the strings: {penalties['checked']}, "
      f"{len(penalties['mismatches'])} do not fit"
      + ("" if largest is None else f", largest difference {largest:.1e}"))
  lines += [f"  W-DATA: {warning}" for warning in result["warnings"]]
  return "\n".join(lines)


def _headline(result):
  if result["driving_score"] is None:
    yield "  no headline: routes are missing (--partial gives it all the same)"
    return
  if not result["complete"]:
    yield "  PARTIAL: a missing route counts 0 in the two scores"
  yield (f"  Driving Score {result['driving_score']:.4f}, Success Rate "
         f"{result['success_rate']:.4f} %")
  yield (f"  Efficiency {_number(result['efficiency'], 2)} over "
         f"{result['efficiency_routes']} routes")
  yield (f"  Comfortness {_number(result['comfort'], 2)} over "
         f"{result['comfort_routes']} routes with a metric_info.json; with "
         f"the yaw repaired {_number(result['comfort_fixed'], 2)}")
  yield "  abilities [%]: " + _join(
      f"{name} {_bounds(part)}" for name, part in result["abilities"].items())
  yield f"  mean of the five: {_bounds(result['ability_mean'])}"
  signs = result["abilities"]["Traffic_Signs"]["script"]
  yield (f"  as the official script counts: Traffic_Signs {_bounds(signs)}, "
         f"mean {_bounds(result['ability_mean']['script'])}")


def comparison(first, second, result):
  """Paired differences of two results, the largest at both ends."""
  lines = [f"{second['file']} - {first['file']}, {first['route_set']}, "
           f"{result['routes']} routes that both have"
           + ("" if first["complete"] and second["complete"]
              else " - PARTIAL")]
  for name, title in (("driving_score", "Driving Score"),
                      ("success_rate", "Success Rate")):
    part = result[name]
    lines.append(
        f"  {title} {part['difference']:+.2f}, {result['level']:g} % interval "
        f"{part['low']:+.2f} to {part['high']:+.2f}")
  lines.append(
      f"  {result['better']} routes better, {result['worse']} worse, "
      f"{result['equal']} equal; {result['resamples']} resamples of the "
      f"routes, seed {result['seed']}")
  pairs = result["per_route"]
  worst = [pair for pair in pairs[:SHOWN] if pair["difference"] < 0]
  best = [pair for pair in pairs[-SHOWN:] if pair["difference"] > 0]
  lines += [f"  {pair['route']:>7} {pair['first']:7.2f} -> "
            f"{pair['second']:6.2f} {pair['difference']:+8.2f}  {pair['type']}"
            for pair in worst + best]
  return "\n".join(lines)


def table(part):
  """A published table with our rows marked by `>`."""
  lines = [f"{part['source']}, {part['route_set']}:",
           f"  {'method':32}{'venue':14}" + "".join(
               f"{TITLES[name]:>11}" for name in published.COLUMNS)]
  for row in part["methods"]:
    mark = ">" if row.get("ours") else " "
    name = row["method"] + ("*" if "note" in row else "")
    lines.append(f"{mark} {name:32}{row['venue']:14}" + "".join(
        f"{_number(row[column], 2):>11}" for column in published.COLUMNS))
  notes = {row["note"] for row in part["methods"] if "note" in row}
  return "\n".join(lines + [f"  * {note}" for note in sorted(notes)])


def _number(value, digits):
  return "-" if value is None else f"{value:.{digits}f}"


def _bounds(part):
  """`40.00`, `52.63 to 71.58`, or `-` without routes."""
  if part["low"] is None or part["value"] is not None:
    return _number(part["value"], 2)
  return f"{part['low']:.2f} to {part['high']:.2f}"


def _few(numbers):
  more = len(numbers) - SHOWN
  return ", ".join(numbers[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _join(parts):
  return ", ".join(parts) or "none"
