"""Child processes that record routes, one JSON line per job.

multiprocessing would import the caller's main module in every child (in
training: jax and TensorFlow); these children run worker.py and nothing else.
"""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys

import data_pipeline

ROOT = os.path.dirname(os.path.dirname(data_pipeline.__file__))
PREFIX = "miniworld-route "  # marks our lines on the child's output


class Child:
  """A process that answers each job with the name of its route."""

  def __init__(self):
    paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    self._process = subprocess.Popen(
        [sys.executable, "-m", "data_pipeline.miniworld.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment)

  def run(self, job):
    """Sends a job and waits for its route's name."""
    self._process.stdin.write(json.dumps(job) + "\n")
    self._process.stdin.flush()
    for line in self._process.stdout:
      if line.startswith(PREFIX):
        return line.removeprefix(PREFIX).strip()
    raise RuntimeError(f"the process that recorded {job} ended with status "
                       f"{self._process.wait()}; its message is above")

  def close(self):
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()


def run(jobs, workers):
  """Yields (job, route name) as they finish, from `workers` children."""
  idle = queue.SimpleQueue()
  children = [Child() for _ in range(min(workers, len(jobs)))]
  for child in children:
    idle.put(child)

  def work(job):
    child = idle.get()
    try:
      return job, child.run(job)
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
