"""Recordings whose numbers no float32 can carry: skipped, told, then the end.

The annotations are finite and of the right shape, so that no reader refuses
them; scaled, they overflow, and so does everything that the model makes of
them.
"""

import itertools
import json

import numpy as np
import pytest

from data_pipeline import order
from drivemoe_jax import build, stepfolders
from tests import small_run
from tests.data_pipeline import fixtures
from tests.faults import kit

BATCH, WINDOWS = 2, 16       # windows 0..7 of one route, 8..15 of the other
POISONED = (7, 15)           # those that alone see how frame 7 turned
FRAMES = [f"{fixtures.NAME.format(i)}/00007" for i in range(2)]


def first_of_two():
  """(seed, step): from there on two updates in a row see poison, none
  before, and there are healthy ones to go back to."""
  for seed in itertools.count():
    at = sorted(step for step in range(1, WINDOWS // BATCH + 1)
                if set(order.sample_ids(seed, step - 1, BATCH, WINDOWS))
                & set(POISONED))
    if len(at) == 2 and at[1] == at[0] + 1 and at[0] >= 4:
      return seed, at[0]


def annotate(root, turning):
  """Writes the angular velocity of frame 7 into both training routes."""
  for i in range(2):
    fixtures.write_frame(root / fixtures.NAME.format(i), 7,
                         fixtures.frame(7) | {"angular_velocity": turning})


def end_of(*args):
  """(exit status, all that was said) of a training."""
  process = kit.command("launch.train", *args)
  try:
    told, _ = process.communicate(timeout=2 * kit.PATIENCE_S)
  finally:
    process.kill()
  return process.returncode, told


@pytest.mark.slow
def test_poisoned_recordings_end_at_the_last_healthy_step(tmp_path):
  root, workdir = small_run.write_routes(tmp_path / "routes"), tmp_path / "run"
  annotate(root, [3e38, 0.0, 0.0])
  seed, step = first_of_two()
  args = ["--config", small_run.CONFIG, "--workdir", str(workdir),
          *small_run.overrides(root, {
              "seed": seed, "global_batch": BATCH, "per_device_batch": BATCH,
              "save_every": 1, "keep_last": 1, "max_skipped": 2,
              "data.statistics": "official",
              "compile_cache": tmp_path / "cache"})]
  status, told = end_of(*args)
  assert status == 5, told
  last, = [line for line in told.splitlines() if "E-NAN" in line]
  assert last.startswith(
      f"E-NAN: 2 non-finite updates in a row at step {step + 1} of seed "
      f"{seed}. Last healthy: {step - 1} (kept)")
  there = stepfolders.finished(str(workdir / "checkpoints"))
  assert max(there) == step - 1 and len(there) <= 2  # and the best, perhaps
  assert all(map(stepfolders.is_healthy, there.values()))
  saved = small_run.params_of(workdir)
  assert all(np.isfinite(x).all() for x in _leaves(saved))
  skipped = [json.loads(line) for line in open(workdir / "skipped.jsonl")]
  assert [line["step"] for line in skipped] == [step, step + 1]
  assert all(set(line["frames"]) & set(FRAMES) for line in skipped)
  log = small_run.log_of(workdir)
  assert log[-1]["skipped_in_a_row"] == 1 and log[-2]["skipped"] == 0

  # The frames are mended, and the run goes on from where it was well.
  annotate(root, fixtures.frame(7)["angular_velocity"])
  status, told = end_of(*args, "--accept-change", "data")
  assert status == 0 and f"resume: step {step - 1}," in told, told
  assert "done: step 8" in told
  assert build.load_run(str(workdir)).step == 8
  assert small_run.log_of(workdir)[-1]["skipped"] == 0


def _leaves(tree):
  return [x for value in tree.values() for x in (
      _leaves(value) if isinstance(value, dict) else [value])]
