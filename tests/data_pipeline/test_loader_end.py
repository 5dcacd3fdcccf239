"""A program ends although its loader is still at work."""

import subprocess
import sys
import textwrap


def test_a_program_ends_while_its_loader_works_ahead():
  program = textwrap.dedent("""
      import time
      import numpy as np
      from data_pipeline import loader

      class Table:
        def rows(self, ids):
          return {"sample_id": ids}

      def slow(places):
        time.sleep(0.05)  # asleep without the interpreter's lock
        nothing = np.zeros((len(places), 1, 4), np.float32)
        return (np.zeros((len(places), 1, 2, 2, 3), np.uint8), nothing,
                nothing, places)

      batches = loader.train_iterator(
          slow, Table(), rows=2, first=0, places=lambda n: n,
          shape=(1, 2, 2, 3), augment=False, prefetch=64, workers=4)
      assert next(batches)["sample_id"].tolist() == [0, 1]
      print("one batch", flush=True)
      """)
  ended = subprocess.run([sys.executable, "-c", program], capture_output=True,
                         text=True, timeout=120)
  assert ended.returncode == 0, ended.stderr
  assert ended.stdout == "one batch\n"
