"""Child processes that record or drive routes, one JSON line per job.

multiprocessing would import the caller's main module in every child (in
training: jax and TensorFlow); these children run one module and nothing else.
"""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys
import threading

import data_pipeline

ROOT = os.path.dirname(os.path.dirname(data_pipeline.__file__))
PREFIX = "miniworld-route "  # marks our lines on the child's output
RECORDS = "data_pipeline.miniworld.worker"


class Died(RuntimeError):
  """A child that ended without an answer."""


class Child:
  """A process that answers each job with the name of its route."""

  def __init__(self, module=RECORDS):
    paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    self._process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment)

  def run(self, job):
    """Sends a job and waits for its route's name."""
    try:
      self._process.stdin.write(json.dumps(job) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # it is dead: the loop below finds no answer
    for line in self._process.stdout:
      if line.startswith(PREFIX):
        return line.removeprefix(PREFIX).strip()
    raise Died(f"the process that was given {job} ended with status "
               f"{self._process.wait()}; its message is above")

  def close(self):
    try:
      self._process.stdin.close()
    except BrokenPipeError:
      pass  # it died with a job in its pipe
    self._process.stdout.close()
    self._process.wait()


def serve(answer):
  """The child's side: answers the jobs on standard input, one a line.

  It ends when there can be no more: its parent is through, or was killed, and
  what is half done then is done by another, in the same place.

  Args:
    answer: a job's dict -> the text that goes back.
  """
  jobs = queue.SimpleQueue()

  def read():
    for line in sys.stdin:
      jobs.put(line)
    os._exit(0)

  threading.Thread(target=read, daemon=True).start()
  while True:
    print(PREFIX + answer(json.loads(jobs.get())), flush=True)


def run(jobs, workers, module=RECORDS, tries=1):
  """Yields (job, answer) as they finish, from `workers` children.

  Args:
    module: what the children run. tries: a job whose child died is given to a
      new one so often, all in all.
  """
  idle = queue.SimpleQueue()
  children = [Child(module) for _ in range(min(workers, len(jobs)))]
  for child in children:
    idle.put(child)

  def work(job):
    child = idle.get()
    try:
      for left in reversed(range(tries)):
        try:
          return job, child.run(job)
        except Died:
          if not left:
            raise
          child = Child(module)
          children.append(child)
    finally:
      idle.put(child)

  threads = concurrent.futures.ThreadPoolExecutor(len(children))
  try:
    futures = [threads.submit(work, job) for job in jobs]
    for future in concurrent.futures.as_completed(futures):
      yield future.result()
  finally:
    threads.shutdown(cancel_futures=True)
    for child in children:
      child.close()
