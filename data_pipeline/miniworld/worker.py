"""A child process of pool.py: records the routes that its input asks for."""

from data_pipeline.miniworld import pool, recorder

if __name__ == "__main__":
  pool.serve(lambda job: recorder.record_route(**job))
