"""Scores against disturbance: the numbers and the table of a sweep."""

from data_pipeline.miniworld import disturb

SWEEP = tuple((kind, level + 1) for kind, levels in disturb.LEVELS.items()
              for level in range(len(levels)))
SCORES = (("driving_score", "driving score"),
          ("success_rate", "success rate [%]"))


def gather(clean, found):
  """One object of a sweep.

  Args:
    clean: summarise() without disturbance. found: {(kind, severity): of it}.

  Returns:
    {kind: [{severity, value, unit, driving_score, success_rate}]}, severity 0
    first, the scores with their intervals.
  """
  def row(kind, level, part):
    value = disturb.LEVELS[kind][level - 1] if level else None
    return {"severity": level, "value": value, "unit": disturb.UNITS[kind],
            **{key: part[key] for key, _ in SCORES}}
  return {kind: [row(kind, 0, clean)] + [
      row(kind, level, found[kind, level])
      for level in range(1, len(levels) + 1)]
      for kind, levels in disturb.LEVELS.items()}


def table(sweep):
  """Text: a line per kind, a column per severity."""
  lines = ["driving score / success % at severity 0 (none) to 3"]
  for kind, rows in sweep.items():
    lines.append(f"  {kind:10}" + "".join(
        f"{row['driving_score']['value']:8.1f} /"
        f"{row['success_rate']['value']:5.1f}" for row in rows))
  return "\n".join(lines)
