"""A child process of pool.py: records the routes that its input asks for."""

import json
import os
import queue
import sys
import threading

from data_pipeline.miniworld import pool, recorder


def read(jobs):
  """Takes in jobs, and ends this process when there can be no more.

  The parent is through then, or it was killed: what it left half done is
  recorded by another, in the same place.
  """
  for line in sys.stdin:
    jobs.put(line)
  os._exit(0)


if __name__ == "__main__":
  wanted = queue.SimpleQueue()
  threading.Thread(target=read, args=(wanted,), daemon=True).start()
  while True:
    print(pool.PREFIX + recorder.record_route(**json.loads(wanted.get())),
          flush=True)
