"""A command that runs on several hosts: its flags, and its parent process.

Every host starts the same command. When a host is lost, jax's coordination
service aborts the process on all others, so the work is done by a child: the
parent stays, tells in one line who is missing, and exits with 6. It imports
no jax and holds no device.
"""

import glob
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

from data_pipeline import errors, masking
from drivemoe_jax import rendezvous

CHILD = "DRIVEMOE_JAX_POD_CHILD"  # set in the environment of the child
PREEMPTED = 75
LAUNCH = "--- launch "  # begins a log's part of one start
TAIL = 15  # lines of a log that are shown when nothing explains an end
# What jax's coordination service writes to the log of a survivor.
ABORT = "JAX distributed service detected fatal errors"
CRASHED = re.compile(r"unhealthy \(stopped sending heartbeats\):(.*?)The tasks",
                     re.DOTALL)


def add_arguments(parser):
  group = parser.add_argument_group(
      "several hosts", "the same command on every host; see docs/pods.md")
  group.add_argument("--distributed", choices=("auto",),
                     help="find the other hosts by what the TPU VM, GKE or "
                     "Slurm says; in place of the next three")
  group.add_argument("--coordinator", metavar="HOST:PORT",
                     help="address of process 0, with a free port")
  group.add_argument("--processes", type=int, metavar="N",
                     help="number of hosts, one process each")
  group.add_argument("--process-id", type=int, metavar="I",
                     help="this host's number, 0 to N-1")
  group.add_argument("--join-timeout", type=float, default=300, metavar="S",
                     help="seconds until hosts that did not come are named "
                     "(default 300)")


def asked(args):
  """Whether the flags name several hosts.

  Raises:
    ConfigError: flags that contradict each other.
  """
  given = {"--coordinator": args.coordinator, "--processes": args.processes,
           "--process-id": args.process_id}
  missing = [name for name, value in given.items() if value is None]
  if args.distributed:
    if len(missing) < len(given):
      raise errors.ConfigError(
          "--distributed auto finds out what "
          f"{' '.join(n for n in given if n not in missing)} would state; "
          "leave one of the two out")
    return True
  if len(missing) == len(given):
    return False
  if missing:
    raise errors.ConfigError(
        f"{' and '.join(missing)} missing: --coordinator HOST:PORT, "
        "--processes N and --process-id I go together")
  if not re.fullmatch(r".+:\d+", args.coordinator):
    raise errors.ConfigError(
        f"--coordinator {args.coordinator}: write HOST:PORT")
  if not 0 <= args.process_id < args.processes:
    raise errors.ConfigError(
        f"--process-id {args.process_id} with --processes {args.processes}; "
        f"ids are 0 to {args.processes - 1}")
  return True


def place(args):
  """rendezvous.Place of this host, or None for a run on one."""
  if not asked(args):
    return None
  return rendezvous.Place(args.coordinator, args.processes, args.process_id,
                          args.join_timeout)


def run(args, module, work):
  """Does `work()`: here on one host, in a child process on one of several.

  Args:
    args: with the flags above, `workdir` and `argv`.
    module: the command, to start it again. work: () -> exit status; in a
      child it joins the others.
  """
  if "://" in args.workdir:
    raise errors.ConfigError(
        f"--workdir {args.workdir}: buckets are written through a mount; name "
        "the mounted folder (docs/tpu.md)")
  if not asked(args):
    return work()
  if CHILD in os.environ:
    return _child(work)
  name = (socket.gethostname() if args.process_id is None
          else f"process-{args.process_id}")
  folder = os.path.join(args.workdir, "logs")
  try:
    os.makedirs(folder, exist_ok=True)
    log = open(os.path.join(folder, f"{name}.log"), "a", encoding="utf-8",
               buffering=1)
  except OSError as error:
    raise errors.StorageError(
        f"{folder}: {error.strerror}; name a --workdir that this host can "
        "write") from None
  with log:
    return _Parent(args, module, log).run()


def _child(work):
  """Works and leaves without jax's last words: a host that failed must not
  wait for the others, its silence is what tells them."""
  threading.Thread(target=_die_with_the_parent, daemon=True).start()
  _keep_standard_output()
  try:
    status = work()
  except errors.UserError as error:
    print(f"\n{error}", file=sys.stderr)  # C++ may have left half a line there
    status = error.status
  except BaseException:
    traceback.print_exc()
    status = 1
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _keep_standard_output():
  """Leaves standard output to Python; the rest of the process has the log.

  The collectives' C++ prints there as well, from threads of its own and in the
  middle of lines, its own and ours.
  """
  sys.stdout = open(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)


def _die_with_the_parent():
  sys.stdin.buffer.read()  # ends when the parent's end of the pipe is closed
  os._exit(1)


class _Parent:
  """Starts the child, keeps its log, passes SIGTERM on, explains its end."""

  def __init__(self, args, module, log):
    self._args, self._log = args, log
    self._command = [sys.executable, "-m", module, *args.argv]

  def run(self):
    """Exit status: the child's, or 6 where it was aborted."""
    shown = masking.mask_arguments(self._command)
    self._log.write(f"{LAUNCH}{time.strftime('%Y-%m-%d %H:%M:%S')} "
                    f"{' '.join(shown)}\n")
    child = subprocess.Popen(
        self._command, env=os.environ | {CHILD: "1"}, text=True,
        errors="replace", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    forward = lambda number, _: child.send_signal(number)
    old = {number: signal.signal(number, forward)
           for number in (signal.SIGTERM, signal.SIGINT)}
    reader = threading.Thread(target=self._read, args=(child.stderr,),
                              daemon=True)
    reader.start()
    try:
      status = child.wait()
    finally:
      child.kill()
      for number, handler in old.items():
        signal.signal(number, handler)
    reader.join(timeout=5)  # a grandchild may hold the pipe
    return self._explain(status)

  def _read(self, lines):
    for line in lines:
      self._log.write(line)
      if re.match(r"[EW]-[A-Z]+: ", line):
        print(line, end="", file=sys.stderr, flush=True)

  def _explain(self, status):
    said = _last_launch(self._log.name)
    if status == -signal.SIGABRT and ABORT in said:
      raise errors.PeerError(self._verdict(said))
    told = re.search(r"^E-[A-Z]+: ", said, re.M)
    if status not in (0, PREEMPTED) and not told:
      tail = "\n".join(said.splitlines()[-TAIL:])
      how = f"signal {-status}" if status < 0 else f"status {status}"
      print(f"{tail}\nthe process ended with {how}; log: {self._log.name}",
            file=sys.stderr)
    return 128 - status if status < 0 else status

  def _verdict(self, said):
    """Who was lost, by the logs of this host and, where shared, of others."""
    place = self._args.coordinator or "the coordinator"
    log = f"log: {self._log.name}"
    if "RegisterTask" in said:
      return (f"{place} did not take this host in within "
              f"{self._args.join_timeout:g} s; start the command on every "
              f"host again, or check the port (--coordinator); {log}")
    folder = os.path.dirname(self._log.name)
    of = lambda process: _log_of(folder, process)
    # Process 0 knows who fell silent, but takes the service with it.
    lost = _crashed(said) or _crashed(of(0)) or [0]
    words = [f"{', '.join(map(str, lost))}"]
    for process in lost:
      last = re.findall(r"^E-[A-Z]+: .*", of(process), re.M)
      words += [f"process {process} said: {last[-1]}"] if last else []
    count = self._args.processes
    return (f"lost process {'; '.join(words)}"
            + (f" (of {count})" if count else "")
            + "; start the command on every host again, or on fewer with "
            f"another --processes: it goes on from the last checkpoint; {log}")


def _crashed(said):
  """Ids of the processes that a log calls lost."""
  found = CRASHED.search(said)
  return rendezvous.process_ids(found.group(1)) if found else []


def _log_of(folder, process):
  """What a process has logged since its last start, where that is seen."""
  newest, found = 0, ""
  for path in glob.glob(os.path.join(glob.escape(folder), "*.log")):
    said, changed = _last_launch(path), os.path.getmtime(path)
    if f"{rendezvous.GREETING}{process} of" in said and changed > newest:
      newest, found = changed, said
  return found


def _last_launch(path):
  """The part of a log since the last start; empty without one."""
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      return file.read().rpartition(LAUNCH)[2]
  except OSError:
    return ""
