"""Stands in for a run on several hosts that takes numbers from the first.

python -m tests.hosts_child --workdir W [flags of launch.pod]
"""

import sys

from launch import cli, pod


def add_arguments(parser):
  parser.add_argument("--workdir")
  pod.add_arguments(parser)


def run(args):
  def work():
    import jax
    import ml_collections
    import numpy as np

    from drivemoe_jax import hosts
    with hosts.joined(pod.place(args), ml_collections.ConfigDict()):
      own = np.array([1 / 3, 1.0]) + jax.process_index()
      print(hosts.of_first("numbers", own, 60).tolist(), flush=True)
    return 0

  return pod.run(args, "tests.hosts_child", work)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
