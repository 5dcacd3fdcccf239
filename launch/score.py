r"""Official Bench2Drive scores from the evaluator's result files.

python -m launch.score merged.json
python -m launch.score SHARDS/ --metric-dir EVAL --merge merged.json
python -m launch.score merged.json --map-root MAPS --published --json -
python -m launch.score --compare A.json B.json

A file is scored by itself, a folder as the merger of its shards. The route set
is recognised and printed with every score. Where routes are missing there is
no headline without --partial, and the exit code is 3. docs/score.md tells
what every number means.
"""

import os
import sys

from data_pipeline import errors
from drivemoe_jax.evaluators.bench2drive import (
    compare,
    published,
    records,
    report,
    route_sets,
    text,
)
from launch import cli, flags


def add_arguments(parser):
  parser.add_argument("results", nargs="*", metavar="PATH",
                      help="result file, or folder of shards")
  parser.add_argument("--partial", action="store_true",
                      help="headline numbers although routes are missing")
  parser.add_argument("--route-set", choices=tuple(route_sets.load()),
                      help="the set it must be on; default: recognised")
  parser.add_argument("--metric-dir", metavar="DIR",
                      help="folder of <save_name>/metric_info.json, for the "
                      "comfort; default: beside the result file")
  parser.add_argument("--map-root", metavar="DIR",
                      help="folder of <Town>.xodr, for exact abilities; needs "
                      "CARLA's client")
  parser.add_argument("--routes", metavar="XML",
                      help="the route set's file, with --map-root; default: "
                      "in that folder")
  parser.add_argument("--compare", nargs=2, metavar=("A", "B"),
                      help="paired differences B - A with an interval")
  parser.add_argument("--seed", type=int, default=0,
                      help="of the resampling in --compare")
  parser.add_argument("--published", action="store_true",
                      help="show the score inside the published tables")
  parser.add_argument("--merge", metavar="FILE",
                      help="write the merged file, as the official script does")
  flags.add_json(parser)


def run(args):
  flags.check_seed(args)
  paths = args.compare or args.results
  _check(args, paths)
  loaded = [records.load(path) for path in paths]
  results = [
      report.report(part, route_set=args.route_set, partial=args.partial,
                    metric_dir=args.metric_dir, map_root=args.map_root,
                    routes_xml=args.routes) for part in loaded]
  out = {"files": results}
  said = [text.scores(result) for result in results]
  allowed = args.partial or all(result["complete"] for result in results)
  if args.compare and allowed:
    out["comparison"] = compare.compare(*results, seed=args.seed)
    said.append(text.comparison(*results, out["comparison"]))  # pyright: ignore[reportCallIssue]
  if args.published:
    out["published"] = published.place(results)
    said += [text.table(table) for table in out["published"]]
    said += [f"{result['file']} is PARTIAL: no place among published scores"
             for result in results if not result["complete"]]
  out["definitions"] = report.DEFINITIONS
  if args.merge:
    cli.write_json(args.merge, report.merged(loaded[0]))
  print("\n\n".join(said), file=flags.words(args))
  flags.write_json(args, out)
  if not allowed:
    raise _incomplete(results)


def _check(args, paths):
  """Refuses flags that do not go together."""
  if args.compare and args.results:
    raise errors.ConfigError(
        f"--compare takes its two files; leave {args.results[0]} out")
  if not paths:
    raise errors.ConfigError(
        "no result file: name one, or a folder of shards")
  for flag in ("metric_dir", "merge"):
    if getattr(args, flag) and len(paths) > 1:
      raise errors.ConfigError(
          f"--{flag.replace('_', '-')} is for one result, {len(paths)} are "
          "named; score them one by one")
  for flag in ("metric_dir", "map_root"):
    folder = getattr(args, flag)
    if folder and not os.path.isdir(folder):
      raise errors.ConfigError(
          f"--{flag.replace('_', '-')} {folder}: no such folder")
  if args.routes and not args.map_root:
    raise errors.ConfigError("--routes is for --map-root: give both")
  if args.merge and os.path.exists(args.merge):
    raise errors.ConfigError(
        f"--merge {args.merge}: there is such a file; move it or name another")


def _incomplete(results):
  """The error that stands for the headline of an incomplete result."""
  lacking = [f"{result['file']} has {result['routes']} of "
             f"{route_sets.ROUTES} routes, {', '.join(result['missing'][:10])}"
             f"{', ...' if len(result['missing']) > 10 else ''} missing"
             for result in results if not result["complete"]]
  return errors.DataError(
      f"{'; '.join(lacking)}: no headline; run the rest, or score with "
      "--partial")


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
