"""SIGTERM, the notice that a machine is going away, taken at any moment.

Python runs a signal handler between two instructions of the main thread, and a
compilation is one that lasts minutes. So a thread of its own reads the signal
from a pipe: while there is nothing new to save the process ends at once, later
the notice is kept until the loop asks. Needs no jax; main thread only.
"""

import os
import signal
import threading

PREEMPTED = 75  # exit status: start the same command again
LAST_WORDS = b"preempted: nothing new to save; start again to go on\n"


class Notice:
  """A context in which SIGTERM ends the process at once, or is kept.

  Contexts nest: the inner one takes the signal.
  """

  def __init__(self):
    self._lock = threading.RLock()  # the handler may interrupt `asked`
    self._asked = self._kept = False

  def asked(self):
    """Whether there was a notice; from the first call on it is only kept."""
    with self._lock:  # a notice of before is ending the process just now
      self._kept = True
    return self._asked

  def __enter__(self):
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._old = signal.signal(signal.SIGTERM, self._note)
    self._old_pipe = signal.set_wakeup_fd(self._write,
                                          warn_on_full_buffer=False)
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    return self

  def _listen(self):
    while signals := os.read(self._read, 64):
      if signal.SIGTERM in signals:
        self._note()

  def _note(self, *_):
    with self._lock:
      self._asked = True
      if not self._kept:
        os.write(1, LAST_WORDS)
        os._exit(PREEMPTED)

  def __exit__(self, *_):
    signal.set_wakeup_fd(self._old_pipe)
    signal.signal(signal.SIGTERM, self._old)
    os.close(self._write)  # ends the thread
    self._thread.join()
    os.close(self._read)
