"""Files that cannot be read: named, skipped up to a cap, marked."""

import numpy as np
import pytest

from data_pipeline import errors, loader, normalize
from tests.data_pipeline import fixtures
from tests.data_pipeline.batches import (
    BATCH,
    TEXT,
    collect,
    evaluate,
    same,
    train,
)


def broken(tmp_path, kind):
  """One route of 7 samples whose sample 4 lacks a good back image."""
  fixtures.write_route(tmp_path, frames=17)
  data = collect(tmp_path)
  path = tmp_path / data.routes[0] / "camera" / "rgb_back" / "00004.jpg"
  if kind == "missing":
    path.unlink()
  else:
    path.write_bytes(path.read_bytes()[:300])
  return data


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_bad_record_fails_by_name(tmp_path, kind):
  data = broken(tmp_path, kind)
  with pytest.raises(errors.DataError, match="rgb_back/00004.jpg is"):
    train(data, 3)
  with pytest.raises(errors.DataError, match="rgb_back/00004.jpg is"):
    list(loader.eval_batches(data, normalize.compute(data), batch_size=3,
                             **TEXT))


def test_failure_comes_after_the_good_batches(tmp_path):
  data = broken(tmp_path, "missing")
  dealt = [loader.sample_ids(1, step, 1, 7)[0] for step in range(7)]
  good = dealt.index(4)
  assert len(train(data, good, batch_size=1)) == good
  with pytest.raises(errors.DataError):
    train(data, good + 1, batch_size=1)


def test_skipping_replaces_one_sample_and_moves_no_other(tmp_path, caplog):
  data = broken(tmp_path, "truncated")
  got = train(data, 7, on_bad_record="skip")
  for step, batch in enumerate(got):
    want = loader.sample_ids(1, step, BATCH, 7)
    np.testing.assert_array_equal(
        batch["sample_id"], np.where(want == 4, 5, want))
    assert (batch["images"].reshape(BATCH, -1).max(1) > 0).all()
  logged = [r.getMessage() for r in caplog.records]
  assert len(logged) == 1 and "rgb_back/00004.jpg" in logged[0]
  same(got[4:], train(data, 3, on_bad_record="skip", start_step=4))


def test_skipping_is_capped(tmp_path):
  data = broken(tmp_path, "missing")
  with pytest.raises(errors.DataError, match="1 unreadable.*allows 0 of 7"):
    train(data, 4, on_bad_record="skip", skip_cap=0.0)
  for path in (tmp_path / data.routes[0] / "camera/rgb_back").iterdir():
    path.unlink()
  with pytest.raises(errors.DataError, match="allows 6 of 7"):
    train(data, 4, on_bad_record="skip", skip_cap=1.0)


def test_evaluation_marks_what_it_skips(tmp_path):
  data = broken(tmp_path, "missing")
  got = evaluate(data, on_bad_record="skip")
  valid = np.concatenate([batch["valid"] for batch in got])
  assert valid.tolist() == [True] * 4 + [False] + [True] * 2 + [False]
