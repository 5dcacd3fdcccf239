r"""Scores a trained run on unseen windows, beside drivers without eyes.

python -m launch.evaluate --workdir runs/tiny
python -m launch.evaluate --workdir runs/tiny --limit 200 --json -
python -m launch.evaluate --compare runs/tiny runs/other
python -m launch.evaluate --workdir runs/tiny --closed-loop --episodes 28

Plans by sampling the flow from noise that is fixed per window, judges both
routers by the labels, does it all again with images of other routes, and
writes WORKDIR/evaluation.json and WORKDIR/predictions.npz (each replaced as a
whole). `--report` draws WORKDIR/report.html as well. `--compare` sets two
finished evaluations side by side, and refuses where their windows differ.
`--closed-loop` drives in the embedded world instead, see docs/miniworld.md.
"""

import os
import sys
import time

import numpy as np

from data_pipeline import loader, normalize, writing
from drivemoe_jax import build, datasets, report
from drivemoe_jax.evaluators import predict, side_by_side, suite, text
from launch import cli, closed_loop, flags

BATCH = 32


def add_arguments(parser):
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--workdir", help="run folder to evaluate")
  what.add_argument("--compare", nargs=2, metavar=("A", "B"),
                    help="differences B - A of two evaluations (run folders "
                    "or evaluation.json files) of the same windows")
  flags.add_sampling(parser)
  parser.add_argument("--split", choices=("val", "train"),
                      help="default: val")
  parser.add_argument("--batch-size", type=int, metavar="N",
                      help=f"default: {BATCH}")
  parser.add_argument("--limit", type=int, metavar="N",
                      help="evaluate N windows, evenly spread; default: all")
  parser.add_argument("--seed", type=int,
                      help="of the noise, the image shuffle and the MLP; "
                      "default: 0")
  flags.add_json(parser, "the scores")
  parser.add_argument("--report", action="store_true",
                      help="write WORKDIR/report.html too")
  closed_loop.add_arguments(parser)


def run(args):
  closed_loop.check(args)
  if args.compare:
    return _compare(args)
  if args.closed_loop:
    return closed_loop.run(args)
  flags.default(args, split="val", batch_size=BATCH, seed=0)
  flags.check_positive(args, "batch_size", "limit")
  flags.check_sampling(args)
  say = _Progress()
  trained = build.load_run(args.workdir, args.step)
  model, config = trained.model, trained.config
  steps = args.steps or config.flow.steps
  noise_scale = (config.flow.noise_scale if args.noise_scale is None
                 else args.noise_scale)
  windows = datasets.windows(config, args.workdir, args.split)
  train = datasets.windows(config, args.workdir, "train")
  options = datasets.options(config)

  def load(ids):
    return loader.eval_batches(
        windows, trained.statistics, batch_size=args.batch_size,
        image_size=model.image_size, prompt_ids=config.prompt_ids,
        text_len=model.text_len, indices=ids, augment=options.eval_augment,
        seed=args.seed, tf_shared_seed=options.tf_shared_seed,
        on_bad_record=config.data.on_bad_record,
        ram_budget_gb=config.data.ram_budget_gb, workers=config.data.workers)

  scores, arrays = suite.evaluate(
      predict.sampler(model, trained.params, steps=steps,
                      clip=config.flow.clip, noise_scale=noise_scale,
                      seed=args.seed),
      load, windows, train,
      to_metres=lambda action: normalize.invert(
          "action", action, trained.statistics),
      limit=args.limit, seed=args.seed, batch_size=args.batch_size,
      skip_cap=config.data.skip_cap, progress=say)
  scores = {"step": int(trained.step), "split": args.split,
            "flow_steps": steps, "noise_scale": noise_scale,
            "seed": args.seed} | scores
  arrays["data_root"] = np.array(_root(windows.root, args.workdir))
  _save(args.workdir, scores, arrays)
  print(text.table(scores), file=flags.words(args))
  flags.write_json(args, scores)
  if args.report:
    out = os.path.join(args.workdir, "report.html")
    report.write([args.workdir], out, say)
    print(f"report: {out}", file=sys.stderr)


def _compare(args):
  """Prints the differences of two evaluations; opens no run."""
  result = side_by_side.compare(*map(side_by_side.load, args.compare))
  print(side_by_side.table(result, args.compare),
        file=flags.words(args))
  flags.write_json(args, result)


def _root(root, workdir):
  """The data folder, relative to the run folder when it lies inside it."""
  inside = os.path.relpath(root, workdir)
  return os.path.abspath(root) if inside.startswith(os.pardir) else inside


def _save(workdir, scores, arrays):
  """Writes both result files, each under its name only once it is whole."""
  predictions = os.path.join(workdir, "predictions.npz")
  with writing.replacing(predictions) as part, open(part, "wb") as file:
    np.savez_compressed(file, **arrays)
  cli.write_json(os.path.join(workdir, "evaluation.json"), scores)


class _Progress:
  """Prints at most one line a few seconds, on standard error."""

  def __init__(self, every=3.0):
    self.every, self.last = every, 0.0

  def __call__(self, text):
    if time.monotonic() - self.last > self.every:
      self.last = time.monotonic()
      print(f"evaluate: {text}", file=sys.stderr, flush=True)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
