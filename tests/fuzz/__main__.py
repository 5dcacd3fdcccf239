r"""Fuzzes every reader: counts, faults, and the most memory and time it took.

  python -m tests.fuzz --cases 100000 --workers 4 --json fuzz.json
  python -m tests.fuzz --cases 2000 --reader "torch file" --seed 5

Each reader has a process of its own, so that a crash of native code is a fault
like any other. Exit status 1 where there are faults.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from multiprocessing import connection

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

from tests.fuzz import readers, trial

FORK = multiprocessing.get_context("fork")  # importing takes ten seconds
NOTHING = {"cases": 0, "taken": 0, "refused": 0, "longest_s": 0.0,
           "grown_mb": 0.0, "wall_s": 0.0}


def one(reader, cases, seed, last, pipe):
  """Runs a reader; sends its outcome. The file `last` holds its last case."""
  logging.disable(logging.CRITICAL)
  warnings.simplefilter("ignore")
  with open(os.devnull, "w", encoding="utf-8") as nowhere:
    os.dup2(nowhere.fileno(), 1)
    os.dup2(nowhere.fileno(), 2)
  with open(last, "w", encoding="utf-8", errors="replace") as file:
    def note(case):
      file.seek(0)
      file.write(repr(case))
      file.truncate()
      file.flush()

    start = time.monotonic()
    outcome = trial.survey(reader, cases, seed, note)
  pipe.send({
      "cases": outcome.cases, "taken": outcome.taken,
      "refused": outcome.refused, "longest_s": round(outcome.seconds, 3),
      "grown_mb": round(outcome.grown / 1e6, 1),
      "wall_s": round(time.monotonic() - start, 1),
      "faults": [{"what": what, "case": case, "trace": trace}
                 for what, (case, trace) in outcome.faults.items()]})
  pipe.close()
  os._exit(0)  # threads of libraries need not be waited for


def run(chosen, cases, seed, workers):
  """Yields (reader, outcome), as they end; cases: {name: how many}."""
  waiting, running = list(chosen), {}
  with tempfile.TemporaryDirectory(prefix="fuzz-last-") as folder:
    while waiting or running:
      while waiting and len(running) < workers:
        reader = waiting.pop(0)
        mine, theirs = FORK.Pipe(duplex=False)
        last = os.path.join(folder, reader.name)
        process = FORK.Process(target=one, args=(
            reader, cases[reader.name], seed, last, theirs))
        process.start()
        theirs.close()
        running[mine] = reader, process, last
      for pipe in connection.wait(list(running)):
        reader, process, last = running.pop(pipe)
        try:
          outcome = pipe.recv()
        except EOFError:
          outcome = None
        process.join()
        yield reader, outcome or _crash(process.exitcode, last)


def _crash(status, last):
  """The outcome of a process that ended without one."""
  case = ""
  if os.path.exists(last):
    with open(last, encoding="utf-8", errors="replace") as file:
      case = file.read(500)
  return NOTHING | {"faults": [{
      "what": f"the process ended with {status}", "case": case, "trace": ""}]}


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--cases", type=int, default=100_000,
                      help="of all readers together, or of --reader")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--reader", choices=[r.name for r in readers.ALL])
  parser.add_argument("--workers", type=int, default=1)
  parser.add_argument("--json", metavar="FILE", help="write the counts there")
  args = parser.parse_args()
  chosen = [r for r in readers.ALL if args.reader in (None, r.name)]
  share = args.cases / sum(r.share for r in chosen)
  cases = {r.name: max(1, round(share * r.share)) for r in chosen}
  found = {}
  print(f"{'reader':24}{'cases':>8}{'taken':>8}{'refused':>9}{'longest':>9}"
        f"{'grown':>9}{'wall':>8}  faults", flush=True)
  for reader, f in run(chosen, cases, args.seed, args.workers):
    found[reader.name] = f
    print(f"{reader.name:24}{f['cases']:>8}{f['taken']:>8}{f['refused']:>9}"
          f"{f['longest_s']:>7.2f} s{f['grown_mb']:>6.0f} MB"
          f"{f['wall_s']:>6.0f} s  {len(f['faults'])}", flush=True)
    for fault in f["faults"]:
      print(f"  {fault['what']}: {fault['case'][:200]}", flush=True)
  total = {key: sum(f[key] for f in found.values())
           for key in ("cases", "taken", "refused")}
  total["faults"] = sum(len(f["faults"]) for f in found.values())
  total["longest_s"] = max(f["longest_s"] for f in found.values())
  total["grown_mb"] = max(f["grown_mb"] for f in found.values())
  print(total)
  if args.json:
    with open(args.json, "w", encoding="utf-8") as file:
      json.dump({"total": total, "readers": found}, file, indent=1)
  return 1 if total["faults"] else 0


if __name__ == "__main__":
  sys.exit(main())
