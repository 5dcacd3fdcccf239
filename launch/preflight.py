r"""Checks hosts, storage, mesh and memory before a run that takes days.

python -m launch.preflight --config configs/stage1.py --workdir mnt/runs/a \
    --coordinator 10.0.0.2:8476 --processes 4 --process-id 0
python -m launch.preflight --config configs/tiny.py --workdir runs/tiny

Start it on every host with the flags of the run, or without them on one. Exit
6: hosts that do not come or differ. 2: config, mesh, batch or memory. 4:
storage that is not writable or not shared. The probe file goes away again; a
new WORKDIR stays, on several hosts with the logs in WORKDIR/logs.
"""

import sys

from launch import cli, flags, pod


def add_arguments(parser):
  flags.add_config(parser)
  parser.add_argument("--workdir", required=True,
                      help="folder of the run, on storage that all hosts see")
  flags.add_json(parser, "the findings (process 0 does)")
  pod.add_arguments(parser)


def run(args):
  config = cli.load_config(args.config, args.overrides)

  def work():
    from drivemoe_jax import hosts, preflight  # jax only in the child
    with hosts.joined(pod.place(args), config):
      found = preflight.run(config, args.workdir)
      if hosts.first():
        if args.json != "-":
          print(preflight.text(found))
        flags.write_json(args, found)
    return 0

  return pod.run(args, "launch.preflight", work)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
