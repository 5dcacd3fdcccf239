r"""Camera and skill labels of raw Bench2Drive routes, from their annotations.

python -m launch.make_labels --root ROUTES --out LABELS --workers 8
python -m launch.make_labels --root ROUTES --out LABELS --diff OFFICIAL --json -
python -m launch.make_labels --out LABELS --diff OFFICIAL  # as they lie there
python -m launch.make_labels --rules  # the rules and their numbers

Writes LABELS/{camera_labels,scenario_labels}/<Route>.json in the official
format and LABELS/label_rules/<Route>.json, which says which rule decided each
frame. What is there already, of the same making, is not made again. A route
that cannot be read is named and left out; the exit code is then 3.
"""

import collections
import sys
import time

from data_pipeline import errors
from data_pipeline.labels import compare, describe, files, generate
from data_pipeline.labels import constants as consts
from launch import cli, flags


def add_arguments(parser):
  parser.add_argument("--root", help="folder of the route folders")
  parser.add_argument("--out", help="folder of the label folders to write")
  parser.add_argument("--workers", type=int, default=2, help="processes")
  parser.add_argument("--maps", metavar="DIR",
                      help="folder of <Town>.xodr; needs CARLA's client")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace labels of any making")
  parser.add_argument("--diff", metavar="DIR",
                      help="compare with this folder's labels")
  flags.add_json(parser, "the comparison")
  parser.add_argument("--rules", action="store_true",
                      help="print the rules and their numbers, and stop")


def run(args):
  if args.rules:
    print(describe.tables(), end="")
    return 0
  if not args.out:
    raise errors.ConfigError("--out is missing: name the folder of the labels")
  if not args.root and not args.diff:
    raise errors.ConfigError(
        "neither --root nor --diff: name the routes to label, or the labels "
        "to compare with")
  if not args.root and (args.maps or args.overwrite):
    raise errors.ConfigError(
        "--maps and --overwrite are for labelling: give --root, too")
  if args.json and not args.diff:
    raise errors.ConfigError("--json writes what --diff finds: give --diff")
  log = flags.words(args)
  routes, broken = None, 0
  if args.root:
    routes, broken = _generate(args, log)
  if args.diff and routes != []:
    report = compare.compare(args.out, args.diff, routes=routes)
    print(_text(report), file=log)
    flags.write_json(args, report)
  return errors.DataError.status if broken else 0


def _generate(args, log):
  """Labels the routes; returns (names of those with labels, number without).
  """
  done, broken = {}, []
  start = last = time.monotonic()
  names = generate.list_routes(args.root, maps=args.maps)
  for name, written in generate.write_routes(
      args.root, names, args.out, maps=args.maps, overwrite=args.overwrite,
      workers=args.workers):
    if isinstance(written, errors.DataError):
      broken.append(name)
      print(written, file=sys.stderr, flush=True)
    else:
      done[name] = written
    if time.monotonic() - last > 2.0:
      last = time.monotonic()
      print(f"make_labels: {len(done) + len(broken)}/{len(names)} routes, "
            f"{last - start:.0f} s, {name}", file=log, flush=True)
  new = sum(written.new for written in done.values())
  print(f"make_labels: {args.out} holds {len(done)} routes, "
        f"{sum(written.frames for written in done.values())} frames; {new} "
        f"labelled now, {len(done) - new} were there", file=log)
  for kind in files.FOLDERS:
    counts = sum((collections.Counter(written.counts[kind])
                  for written in done.values()), collections.Counter())
    print(f"  {kind}: " + ", ".join(
        f"{label} {count}" for label, count in counts.most_common()), file=log)
  unknown = {written.kind for written in done.values()} - consts.KNOWN
  if unknown:
    print(f"W-DATA: scenario types without rules of their own: "
          f"{', '.join(sorted(unknown))}; the rules for all types labelled "
          "them", file=sys.stderr)
  if broken:
    print(f"E-DATA: {len(broken)} of {len(broken) + len(done)} routes have no "
          "labels, the errors above say why", file=sys.stderr)
  return list(done), len(broken)


def _text(report):
  """The comparison for people."""
  lines = [f"compared: {report['routes']} routes, {report['frames']} frames"]
  for kind in files.FOLDERS:
    missing = len(report["missing"][kind])
    if report[kind] is None:
      lines.append(f"{kind}: no such labels to compare with")
      continue
    lines += ["", _scores(kind, report[kind])]
    if missing:
      lines.append(f"  {missing} routes have no {kind} labels to compare with")
    lines.append("  class            support  precision  recall      F1")
    lines += [f"  {c['name']:16} {c['support']:7} {c['precision']:10.3f} "
              f"{c['recall']:7.3f} {c['f1']:7.3f}"
              for c in report[kind]["classes"]]
    lines.append("  edges in frames: class, runs matched/there, extra, onset "
                 "and offset as median and mean |error|")
    lines += [_edge(name, edge)
              for name, edge in report[kind]["edges"].items()]
    for scenario, part in report[kind]["per_type"].items():
      lines += [_scores(f"  {scenario}", part), *_confusion(part)]
  return "\n".join(lines)


def _scores(name, part):
  kappa = "-" if part["kappa"] is None else f"{part['kappa']:.4f}"
  frames = sum(map(sum, part["confusion"]))
  return (f"{name}: accuracy {part['accuracy']:.4f}, macro-F1 "
          f"{part['macro_f1']:.4f}, kappa {kappa}, {frames} frames")


def _edge(name, edge):
  text = f"    {name:16} {edge['matched']}/{edge['runs']}, {edge['extra']}"
  for key in ("onset", "offset"):
    if edge[key]["median"] is not None:
      text += (f", {key} {edge[key]['median']:+g} "
               f"{edge[key]['mean_abs']:.1f}")
  return text


def _confusion(part):
  """Lines of a confusion matrix; rows are the reference's classes."""
  names = [c["name"] for c in part["classes"]]
  used = [i for i, row in enumerate(part["confusion"])
          if sum(row) or sum(other[i] for other in part["confusion"])]
  lines = [" " * 22 + "".join(f"{names[i]:>16}" for i in used)]
  return lines + [
      f"      {names[i]:16}" + "".join(
          f"{part['confusion'][i][j]:16}" for j in used) for i in used]


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
