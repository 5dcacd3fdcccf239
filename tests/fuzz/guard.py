"""What no input may make a reader do: told by the system, not by the reader.

Audit hooks see every file that Python opens and every program that it starts,
an alarm ends what hangs, and a limit on the address space what takes too much.
"""

import contextlib
import os
import resource
import signal
import sys
import sysconfig
import time

SECONDS = 10
BYTES = 1 << 30
ALARMS = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS),
          signal.ITIMER_REAL: (signal.SIGALRM, 60 * SECONDS)}
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile",
        "subprocess.Popen", "pickle.find_class", "ctypes.dlopen",
        "socket.connect", "urllib.Request", "webbrowser.open")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link",
           "os.symlink", "os.chmod", "os.truncate", "shutil.rmtree",
           "shutil.copyfile", "shutil.move")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OURS = tuple(os.path.realpath(path) for path in (
    sysconfig.get_paths()["stdlib"], sys.prefix, "/dev", "/proc",
    os.path.dirname(os.path.dirname(os.path.dirname(__file__)))))


class Violation(BaseException):
  """A reader did what it must not; nothing below catches it."""


class Hang(Violation):
  """It took longer than SECONDS."""


class Watch:
  """What a case may touch; one for the process, for a hook stays for ever."""

  def __init__(self):
    self.arena = self.case = None
    self.seen = []
    self._hooked = False

  def hook(self):
    if not self._hooked:
      self._hooked = True
      sys.addaudithook(self._audit)

  def _audit(self, event, args):
    if self.case is None:
      return
    if event == "open":
      path, _, flags = args
      writes = isinstance(flags, int) and bool(flags & WRITES)
      self._check(event, path, writes)
    elif event in CHANGES:
      for path in args[:2]:
        self._check(event, path, True)
    elif event in RUNS and not (event == "ctypes.dlopen" and args[0] is None):
      self._tell(f"{event} {args!r:.200}")

  def _check(self, event, path, writes):
    if not isinstance(path, (str, bytes, os.PathLike)):
      return
    path = os.path.realpath(os.fsdecode(path))
    inside = lambda folder: path == folder or path.startswith(folder + os.sep)
    if inside(self.case):
      return
    if inside(self.arena) or "outside" in path or (
        writes and not any(map(inside, OURS))):
      self._tell(f"{event} {path}")

  def _tell(self, what):
    self.seen.append(what)
    raise Violation(what)


WATCH = Watch()


@contextlib.contextmanager
def watched(arena, case):
  """Inside, whatever touches other places than `case` is a Violation.

  Args:
    arena: folder around it, of which nothing else may be read either.
  """
  WATCH.hook()
  del WATCH.seen[:]
  WATCH.arena, WATCH.case = os.path.realpath(arena), os.path.realpath(case)

  def ring(*_):
    raise Hang(f"longer than {SECONDS} s")

  # Of this process's own time, for others may have the processor; and again
  # each second, for the first exception may end in a callback.
  before = [signal.signal(kind, ring) for kind, _ in ALARMS.values()]
  for timer, (_, seconds) in ALARMS.items():
    signal.setitimer(timer, seconds, 1)
  try:
    yield
  finally:
    for timer in ALARMS:
      signal.setitimer(timer, 0)
    for (kind, _), handler in zip(ALARMS.values(), before):
      signal.signal(kind, handler)
    WATCH.case = None
  if WATCH.seen:  # somebody caught it after all
    raise Violation(WATCH.seen[0])


@contextlib.contextmanager
def limited(size=BYTES):
  """Inside, this process may take so many bytes more than it has."""
  soft, hard = resource.getrlimit(resource.RLIMIT_AS)
  with open("/proc/self/statm", encoding="utf-8") as file:
    pages = int(file.read().split()[0])
  resource.setrlimit(resource.RLIMIT_AS, (
      pages * resource.getpagesize() + size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def out_of_memory(error):
  """Whether a MemoryError is behind an exception, also behind a polite one."""
  while error is not None:
    if isinstance(error, MemoryError):
      return True
    error = error.__cause__ or error.__context__
  return False


def peak_bytes():
  """The most memory this process ever had."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Clock:
  """The longest of the processor times between `with` and its end."""

  longest = 0.0

  def __enter__(self):
    self._start = time.process_time()

  def __exit__(self, *_):
    self.longest = max(self.longest, time.process_time() - self._start)
