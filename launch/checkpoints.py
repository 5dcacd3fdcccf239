"""Lists the checkpoints of a run, or takes in one that was copied by hand.

  python -m launch.checkpoints --workdir runs/a
  python -m launch.checkpoints --workdir runs/a --adopt copies/12000
  python -m launch.checkpoints --workdir runs/a --json -

A step counts when all its files are there in full size. --adopt reads every
array of a copied step folder, compares it with the run's config, and only then
makes it a step of the run; the copy is left as it is. See docs/checkpoints.md.
"""

import os
import sys

from data_pipeline import errors
from launch import cli, flags


def add_arguments(parser):
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument("--list", action="store_true",
                      help="list them, after --adopt too")
  parser.add_argument("--adopt", metavar="PATH",
                      help="folder of one step, whatever its name")
  flags.add_json(parser, "the list")


def run(args):
  adopted = None
  if args.adopt:
    from drivemoe_jax import adopt  # loads jax; listing does without
    adopted, count, size = adopt.adopt(args.workdir, args.adopt)
    if args.json != "-":
      print(f"adopted step {adopted}: {count} arrays, {size:,} bytes, all "
            "readable and finite")
  if args.adopt and not (args.list or args.json):
    return
  listed = describe(args.workdir)
  if args.json != "-":
    print(text(listed))
  flags.write_json(args, listed | {"adopted": adopted})


def describe(workdir):
  """What lies in a run's checkpoints folder, as one JSON object."""
  from drivemoe_jax import stepfolders

  folder = os.path.join(workdir, "checkpoints")
  if not os.path.isdir(folder):
    raise errors.CheckpointError(
        f"{workdir} holds no checkpoint; name a folder that "
        "`launch.train --workdir` has written")
  found = stepfolders.scan(folder)
  metas = {f.step: f.meta for f in found if not f.fault}
  newest = metas[max(metas)] if metas else {}
  rule = newest.get("config", {}).get("keep_best", "")
  best = stepfolders.best(metas, rule)
  return {
      "workdir": workdir, "latest": max(metas, default=None), "best": best,
      "last_healthy": stepfolders.last_healthy(metas), "steps": [{
          "name": f.name, "step": f.step, "finished": not f.fault,
          "why": f.fault, "healthy": stepfolders.is_healthy(f.meta),
          "best": not f.fault and f.step == best,
          "score": f.meta.get("score", {}),
          "bytes": stepfolders.bytes_of(f.path),
          "format": f.meta.get("format"),
          "next_sample": f.meta.get("next_sample"),
          "saved_on": f.meta.get("saved_on"),
          "changes": f.meta.get("changes", [])} for f in found]}


def text(listed):
  """The list for a person."""
  lines = [f"{'step':>10}  {'state':32}{'MB':>10}  format"]
  for s in listed["steps"]:
    words = ["finished" if s["finished"] else "unfinished"]
    words += ["best"] * s["best"]
    words += ["not healthy"] * (s["finished"] and not s["healthy"])
    words += [f"{name} {value:.4g}" for name, value in s["score"].items()]
    lines.append(f"{s['name']:>10}  {', '.join(words):32}"
                 f"{s['bytes'] / 1e6:>10,.1f}  {s['format'] or '-'}"
                 + (f"  ({s['why']})" if s["why"] else ""))
    lines += [f"{'':12}from step {c['step']}: {c['key']} {c['from']} -> "
              f"{c['to']}" for c in s["changes"]]
  lines.append(f"latest {listed['latest']}, last healthy "
               f"{listed['last_healthy']}, best {listed['best']}")
  return "\n".join(lines)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
