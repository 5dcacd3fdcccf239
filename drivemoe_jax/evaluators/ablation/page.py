"""The comparison as a page of Markdown, made of raw rows alone.

Nothing is left out or judged: a row that contradicts the paper stands there as
it is, and rows that are missing are named.
"""

import functools

from data_pipeline.miniworld import names
from data_pipeline.spec import Skill
from drivemoe_jax.evaluators.ablation import paired, variants

MARK = "<!-- written by launch.ablate from the raw files that it lists -->"
WARNING = ("**These are numbers of the embedded miniworld. They say nothing "
           "about CARLA and must not be put beside Bench2Drive's.**")
SKILLS = tuple(skill.name.lower() for skill in Skill
               if skill in names.SKILLS.values())
NONE = "-"


def text(rows, sha256, command, folder):
  """The page.

  Args:
    rows: {name: raw row}, at least one. sha256: {name: of its file}.
    command: that writes the page. folder: of the figure and the raw files,
      beside the page.
  """
  groups = {v.name: [row for row in rows.values() if row["variant"] == v.name]
            for v in variants.VARIANTS}
  groups = {name: part for name, part in groups.items() if part}
  return "\n".join([
      MARK, "# The paper's comparison in miniature", "", WARNING, "",
      f"    {command}", "", *_budget(rows), "", *_main(groups), "",
      *_difference(rows), "", *_skills(groups), "", *_modes(groups, folder),
      "", *_sources(rows, sha256, folder), ""])


def _budget(rows):
  """How long was trained, on what, and what is missing."""
  one = next(iter(rows.values()))
  known, settings = [r.name for r in variants.rows()], one["settings"]
  missing = [name for name in known if name not in rows]
  seconds = [row["training_seconds"] for row in rows.values()]
  minutes = settings["minutes"] if settings["updates"] is None else None
  asked = (f"what the slowest variant was timed to make in {minutes:g} min"
           if minutes else "a number that was stated, not measured")
  lines = [
      f"**{len(rows)} of {len(known)} rows are here, {len(missing)} are "
      f"missing.** Every row was trained for {one['updates']} updates "
      f"({one['samples_seen']} samples), {asked}; that took "
      f"{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} min on "
      f"{', '.join(sorted({row['device'] for row in rows.values()}))}. "
      f"Driven: {settings['episodes']} test episodes per row, the same for "
      "all."]
  if missing:
    lines += ["", "Missing: " + ", ".join(f"`{name}`" for name in missing)
              + "."]
  return lines


def _main(groups):
  """The table of all variants, then the yardsticks."""
  lines = ["## Scores", "",
           "Mean ± standard deviation over seeds. Score and success are those "
           "of the closed loop; ADE [m] is open loop; router accuracy against "
           "the labels; latency is one plan's median; memory at its most, in "
           "training and in planning.", "",
           "| variant | seeds | driving score | success % | ADE | camera "
           "router % | skill router % | plan ms | memory GB | training min |",
           "|---" * 10 + "|"]
  for name, part in groups.items():
    cells = [
        variants.BY_NAME[name].title, str(len(part)),
        _cell(part, lambda r: r["closed_loop"]["driving_score"]["value"]),
        _cell(part, lambda r: r["closed_loop"]["success_rate"]["value"]),
        _cell(part, lambda r: r["open_loop"]["ade"], "{:.3f}"),
        _cell(part, lambda r: _accuracy(r, "camera")),
        _cell(part, lambda r: _accuracy(r, "skill")),
        _cell(part, lambda r: r["latency_ms"]["median"]),
        _cell(part, lambda r: r["training_bytes"] / 1e9, "{:.2f}") + ", "
        + _cell(part, lambda r: r["planning_bytes"] / 1e9, "{:.2f}"),
        _cell(part, lambda r: r["training_seconds"] / 60)]
    lines.append("| " + " | ".join(cells) + " |")
  yardsticks = next(iter(groups.values()))[0]["yardsticks"]
  for name, part in yardsticks.items():
    lines.append(
        f"| *{name}* | | {part['driving_score']['value']:.1f} | "
        f"{part['success_rate']['value']:.1f} |" + " |" * 6)
  return lines


def _accuracy(row, router):
  found = row["routers"][router]
  return None if found is None else 100 * found["accuracy"]


def _cell(part, value, form="{:.1f}"):
  """"mean ± deviation" over rows; a dash where a row has no such value."""
  values = [value(row) for row in part]
  if None in values:
    return NONE
  mean, deviation = paired.spread(values)
  return form.format(mean) + (
      "" if deviation is None else " ± " + form.format(deviation))


def _difference(rows):
  """Trajectory-level against Drive-pi0, drive by drive."""
  ours, theirs = variants.PAIR
  lines = [f"## `{ours}` minus `{theirs}`", ""]
  for place, (key, name) in {2: ("score", "driving score"),
                             3: ("success", "success, in points")}.items():
    scale = 1.0 if key == "score" else 100.0
    side = {who: {row["seed"]: {
        (kind, seed): scale * float(e[place])
        for e in row["episodes"] for kind, seed in [e[:2]]}
        for row in rows.values() if row["variant"] == who}
        for who in variants.PAIR}
    found = paired.difference(side[ours], side[theirs])
    if found is None:
      return [*lines, "No seed of both is finished, there is no difference to "
              "tell."]
    lines.append(
        f"- {name}: {found['value']:+.2f}, {found['level']:g} % interval "
        f"[{found['low']:+.2f}, {found['high']:+.2f}], "
        f"{found['seeds']} seeds x {found['episodes']} episodes, "
        + ("excludes zero" if found["low"] * found["high"] > 0
           else "does not exclude zero"))
  return [*lines, "", "Paired by seed and episode; the interval resamples "
          "both."]


def _skills(groups):
  """Driving score, and success, of every skill."""
  lines = ["## Driving score / success % per skill", "",
           "| variant | " + " | ".join(s.replace("_", " ") for s in SKILLS)
           + " |", "|---" * (len(SKILLS) + 1) + "|"]
  for name, part in groups.items():
    cells = [" / ".join(
        _cell(part, functools.partial(_of_skill, skill, key), "{:.0f}")
        for key in ("driving_score", "success_rate")) for skill in SKILLS]
    lines.append(f"| {name} | " + " | ".join(cells) + " |")
  return lines


def _of_skill(skill, key, row):
  """A row's score in the scenes of a skill, None where it drove none."""
  part = row["closed_loop"]["per_skill"]
  return part[skill][key]["value"] if skill in part else None


def _modes(groups, folder):
  """Where the plans of the two-mode scene lie."""
  lines = [
      "## Mode averaging", "",
      "Road works stand free between two lanes, and the expert passes them "
      "left or right by a coin. From the last moment before it swerves, plans "
      "are sampled; the way between the ends of the two drives after 0.9 s is "
      "cut in three. A plan in the middle third averages the modes, or goes "
      "straight on for now: the two cannot be told apart here.", "",
      f"![Sampled plans from above, per variant]({folder}/modes.png)", "",
      "| variant | plans | left % | between % | right % |", "|---|---|---|---"
      "|---|"]
  for name, part in groups.items():
    count = sum(len(s["plans"]) for row in part for s in row["modes"])
    lines.append(f"| {name} | {count} | " + " | ".join(
        _cell(part, lambda row, s=side: 100 * share(row, s))
        for side in ("left", "between", "right")) + " |")
  return lines


def share(row, side):
  """Share of a row's plans on a side, over all scenes."""
  parts = [scene["shares"][side] for scene in row["modes"]]
  return sum(parts) / len(parts)


def _sources(rows, sha256, folder):
  """Where every number comes from."""
  return [
      "## Raw files", "",
      "| row | commit | config SHA-256 | file SHA-256 |", "|---|---|---|---|",
      *(f"| [{name}]({folder}/{name}.json) | {row['commit'] or 'unknown'} | "
        f"`{row['config_sha256'][:16]}` | `{sha256[name]}` |"
        for name, row in rows.items()),
      "", "A plus behind a commit: files had been changed."]
