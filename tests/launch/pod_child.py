"""Stands in for a command that runs on several hosts: its child's part.

python -m tests.launch.pod_child --workdir W MODE [flags of launch.pod]
"""

import os
import signal
import sys
import time

from data_pipeline import errors
from launch import cli, pod

FATAL = ("F1123 15:47:12 5906 client.h:80] Terminating process because the JAX "
         "distributed service detected fatal errors. ")
CRASH = ("UNAVAILABLE: The following tasks are unhealthy (stopped sending "
         "heartbeats):\n{}\nThe tasks have crashed.")
SAID = {
    "lost": FATAL + CRASH.format("2"),
    "lost two": FATAL + CRASH.format(
        "/job:jax_worker/replica:0/task:1\n/job:jax_worker/replica:0/task:3"),
    "no coordinator": FATAL + "Failed to send RPC to coordination service. "
                      "Either the leader task was preempted or died",
    "not joined": FATAL + "RPC: /xla.coordination.CoordinationService"
                          "/RegisterTask",
}


def add_arguments(parser):
  parser.add_argument("mode")
  parser.add_argument("--workdir")
  pod.add_arguments(parser)


def run(args):
  def work():
    print(f"joined as process {args.process_id} of {args.processes}",
          file=sys.stderr, flush=True)
    if args.mode in SAID:
      print(SAID[args.mode], file=sys.stderr, flush=True)
      os.abort()
    if args.mode == "bad data":
      os.write(1, b"[Gloo] Rank ")  # and the rest of it later, or never
      raise errors.DataError("shard 17 is broken")
    if args.mode == "bug":
      raise KeyError("a bug")
    if args.mode == "told and killed":
      print("E-DATA: shard 17 is broken", file=sys.stderr, flush=True)
    if args.mode == "chatter":
      os.write(1, b"[Gloo] Rank ")  # past Python, and half a line, as C++ does
      print("ours", flush=True)
      return 0
    if args.mode.endswith("killed"):
      os.kill(os.getpid(), signal.SIGKILL)
    if args.mode == "sleep":
      stopped = []
      signal.signal(signal.SIGTERM, lambda *_: stopped.append(75))
      print(os.getpid(), flush=True)
      while not stopped:
        time.sleep(0.01)
      return stopped[0]
    print(f"place {pod.place(args)}", flush=True)
    return int(args.mode)

  return pod.run(args, "tests.launch.pod_child", work)


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
