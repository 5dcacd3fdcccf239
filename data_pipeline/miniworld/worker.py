"""A child process of pool.py: records the routes that its input asks for."""

import json
import sys

from data_pipeline.miniworld import pool, recorder

if __name__ == "__main__":
  for line in sys.stdin:
    print(pool.PREFIX + recorder.record_route(**json.loads(line)), flush=True)
