"""Compare the model with golden cases of the official one.

  python -m launch.parity GOLDEN/drive*/ [--json FILE|-]

Prints the error of every stored quantity that fails, and a summary per case;
`--verbose` prints all. Exit 1 when any is outside its tolerance.
"""

import sys

from launch import cli, flags


def add_arguments(parser):
  parser.add_argument("cases", nargs="+", metavar="CASE",
                      help="folders with config.json, weights, inputs, outputs")
  flags.add_json(parser, "every quantity")
  parser.add_argument("--verbose", action="store_true",
                      help="print passing quantities too")


def run(args):
  from drivemoe_jax import golden, parity  # jax only once the flags are right

  report = flags.words(args)
  cases = []
  for folder in args.cases:
    found = list(parity.run(folder))
    bad = [q for q in found if q.ok is False]
    for q in found if args.verbose else bad + [q for q in found if q.why]:
      state = {True: "pass", False: "FAIL", None: "null"}[q.ok]
      print(f"{state}  {q.name:72} abs {q.max_abs:8.1e}  rel {q.max_rel:8.1e}"
            f"  {q.why}", file=report)
    null = sum(q.ok is None for q in found)
    name = golden.case_name(folder)
    print(f"{name}: {len(found) - len(bad) - null} pass, {len(bad)} fail, "
          f"{null} null", file=report, flush=True)
    cases.append({"case": name, "ok": not bad,
                  "quantities": [q.record() for q in found]})
  ok = all(case["ok"] for case in cases)
  flags.write_json(args, {"ok": ok, "cases": cases})
  return 0 if ok else 1


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
