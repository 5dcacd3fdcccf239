"""The report's part on closed-loop driving: scores per skill, and a film.

Both are looked for in the run folder, where `launch.evaluate --closed-loop`
puts the first and demo.sh the second; a run without them has no such part.
"""

import base64
import os

from data_pipeline import errors, reading, schema
from drivemoe_jax.report import tables

SCORES = "closed_loop.json"
FILM = "film.gif"      # what every browser plays; MP4V it does not
DRIVE = "run: python -m launch.evaluate --closed-loop --workdir "
NAMES = {"model": "the model", "served": "the model, through the server",
         "still": "still: stands on the brake",
         "blind": "blind: follows the route at 6 m/s, sees nobody",
         "expert": "expert: rules, an upper bound"}
_SCORE = {"value": schema.number, "low": schema.number, "high": schema.number}
_PART = {"episodes": schema.count, "driving_score": _SCORE,
         "success_rate": _SCORE, "completion": schema.number}
SCHEMA = {"checkpoint_step": schema.Maybe(schema.count),
          "drivers": schema.Each(
              _PART | {"seeds": schema.count, "per_skill": schema.Each(_PART),
                       "infractions": schema.Each({"total": schema.count})})}
NOTE = """These are miniworld numbers, not Bench2Drive's: never put them beside
published scores. A drive's score is the completed share of its way in percent,
times a factor for each infraction; a success is a completed drive without any.
Read them beside the other drivers': a benchmark that <i>still</i> or
<i>blind</i> passes says nothing."""
LEGEND = """One drive of the model, every 0.2 s. Six cameras, the one that the
camera router chose framed in yellow; below them the scene from above (the car
red, its plan yellow, its route green), the router's weight of each expert, and
speed and pedals."""


def section(workdir, evaluated):
  """The part of the page, or "" where there were no drives.

  Args:
    workdir: run folder. evaluated: step of the checkpoint that the rest of
      the page is about.

  Raises:
    DataError: scores or film are broken.
  """
  parts = [_scores(workdir, evaluated), _film(workdir)]
  if not any(parts):
    return ""
  return "".join(["<h2>Driving in the miniworld</h2>", *parts])


def _scores(workdir, evaluated):
  path = os.path.join(workdir, SCORES)
  if not os.path.exists(path):
    return ""
  result = reading.json_file(path, DRIVE + workdir, is_no="is broken")
  why = schema.fault(result, SCHEMA, "it") or _uneven(result["drivers"])
  if why:
    raise errors.DataError(f"{path} is broken ({why}); {DRIVE}{workdir}")
  drivers, step = result["drivers"], result.get("checkpoint_step")
  first = next(iter(drivers.values()))
  told = f"{first['episodes']} drives of each driver, on unseen scenes"
  told += (f"; brackets are 95 % intervals over {first['seeds']} seeds"
           if first["seeds"] > 1 else
           "; too few to tell two drivers apart: all are of one seed")
  if step != evaluated:
    told += (f". <b>Driven by the checkpoint of step {step}, while the rest of "
             f"this page is about step {evaluated}</b>")
  rows = [("all", list(drivers.values()))] + [
      (skill.replace("_", " "), [d["per_skill"][skill]
                                 for d in drivers.values()])
      for skill in first["per_skill"]]
  head = ["driving score / success",
          *(NAMES.get(name, name) for name in drivers)]
  return (f"<p class=note>{NOTE}</p><p>{told}.</p>" + tables.table(head, [
      [f"{name} (n={parts[0]['episodes']})",
       *(_cell(part, first["seeds"] > 1) for part in parts)]
      for name, parts in rows]) + _faults(drivers))


def _uneven(drivers):
  """What is wrong between the drivers, in words, or None."""
  if not drivers:
    return "nobody drove"
  first, *others = (sorted(d["per_skill"]) for d in drivers.values())
  return "the drivers drove other skills" if any(
      skills != first for skills in others) else None


def _cell(part, interval):
  """Score and success of one driver, in one cell."""
  def show(score, unit):
    span = f" [{score['low']:.0f}, {score['high']:.0f}]" if interval else ""
    return f"{score['value']:.0f}{unit}{span}"

  return f"{show(part['driving_score'], '')} / " + (
      show(part["success_rate"], " %"))


def _faults(drivers):
  """How far everybody came, and what they did wrong."""
  return tables.table(["", "way completed", "infractions"], [
      [NAMES.get(name, name), f"{part['completion']:.0f} %",
       ", ".join(f"{kind.replace('_', ' ')} {found['total']}"
                 for kind, found in part["infractions"].items()
                 if found["total"]) or "none"]
      for name, part in drivers.items()])


def _film(workdir):
  path = os.path.join(workdir, FILM)
  if not os.path.exists(path):
    return ""
  remedy = f"{DRIVE}{workdir} --film {path}"
  data = reading.content(path, remedy)
  if not data.startswith(b"GIF8"):
    raise errors.DataError(f"{path} is no GIF; {remedy}")
  return (f'<p>{LEGEND}</p><img alt="film of a drive" '
          f'src="data:image/gif;base64,{base64.b64encode(data).decode()}">')
