"""What the commands that fill a prepared folder share: flags, run, summary.

launch.prepare takes Bench2Drive's routes, launch.import_nuscenes scenes; how
they are converted, split by share and counted is the same.
"""

import os

from data_pipeline import prepare, records


def add(parser, noun, *, val_fraction=None):
  """Adds the flags of any prepared folder.

  Args:
    parser: of the command.
    noun: what is prepared, "routes" or "scenes".
    val_fraction: default of --val-fraction.

  Returns:
    The group of ways to hold out, for the list that the command takes.
  """
  default = prepare.Options()
  parser.add_argument("--out", required=True, help="folder to write")
  held_out = parser.add_mutually_exclusive_group()
  held_out.add_argument("--val-fraction", type=float, metavar="SHARE",
                        default=val_fraction,
                        help=f"instead of a list: share of {noun} held out"
                        + (f" ({val_fraction})" if val_fraction else ""))
  parser.add_argument("--seed", type=int, default=0,
                      help=f"which {noun} --val-fraction takes")
  parser.add_argument("--size", type=int, default=default.size,
                      help="side of the images in pixels")
  parser.add_argument("--encoding", default=default.encoding,
                      choices=list(records.ENCODINGS),
                      help="png is lossless, jpeg has quality 95")
  parser.add_argument("--horizons", type=int, nargs="+", metavar="H",
                      default=list(default.horizons),
                      help="plan lengths to compute statistics for")
  parser.add_argument("--on-bad-record", choices=["fail", "skip"],
                      default="fail", help=f"what to do about bad {noun}")
  parser.add_argument("--skip-cap", type=float, default=0.05, metavar="SHARE",
                      help=f"most {noun} that may be skipped")
  parser.add_argument("--workers", type=int, default=os.cpu_count(),
                      help="processes")
  return held_out


def fill(args, source, val, *, beam=None, **options):
  """Prepares a source into --out -> the manifest.

  Args:
    args: parsed flags of `add`.
    source, val, beam: see data_pipeline.prepare.prepare.
    **options: of prepare.Options, beyond the flags.
  """
  return prepare.prepare(
      source, args.out, prepare.Options(
          size=args.size, encoding=args.encoding,
          horizons=tuple(args.horizons), **options),
      val, workers=args.workers, beam=beam, on_bad_record=args.on_bad_record,
      skip_cap=args.skip_cap, say=lambda line: print(line, flush=True))


def summary(command, noun, args, manifest):
  """Prints what --out holds, and what was left out and why."""
  size = sum(shard["bytes"] for shard in manifest["shards"])
  print(f"{command}: {args.out} holds {len(manifest['routes'])} {noun}, "
        f"{manifest['frames']} frames in {len(manifest['shards'])} shards, "
        f"{size / 1e9:.2f} GB; {len(manifest['skipped'])} {noun} left out")
  for name, why in manifest["skipped"].items():
    print(f"  {name}: {why}")
