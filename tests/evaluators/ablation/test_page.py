"""The page says what the raw rows hold, what is missing, and for how long."""

import json

import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators.ablation import page, store, variants
from tests.evaluators.ablation import raw

PAIR = [f"{name}-{seed}" for seed in range(3) for name in variants.PAIR]


def text(names, **changes):
  rows = {name: raw.row(name) | changes for name in names}
  return page.text(rows, {name: f"sha-of-{name}" for name in names},
                   "the command", "folder")


def test_the_pair_and_its_difference():
  said = text(PAIR)
  # raw.score: ten points between them in every drive; 60 or 70, seeds 0 to 2,
  # on average 13/14 of a type and half of a scene's seed.
  assert "driving score: +10.00, 90 % interval [+10.00, +10.00]" in said
  assert "3 seeds x 28 episodes, excludes zero" in said
  assert "| 72.4 ± 1.0 |" in said and "| 62.4 ± 1.0 |" in said
  assert "success, in points: +0.00" in said and "does not exclude" in said


def test_a_row_against_the_paper_stands_as_it_is():
  swapped = {"pi0": "trajectory", "trajectory": "pi0"}
  rows = {name: raw.row(name) for name in PAIR}
  for row in rows.values():
    row["variant"] = swapped[row["variant"]]
  said = page.text(rows, dict.fromkeys(rows, "x"), "c", "f")
  assert "driving score: -10.00, 90 % interval [-10.00, -10.00]" in said


def test_what_is_missing_is_named_and_the_warning_is_there():
  said = text(["pi0-0"])
  assert "1 of 33 rows are here, 32 are missing" in said
  assert "`token-2`" in said and "`pi0-0`" not in said
  assert page.WARNING in said and "Bench2Drive" in page.WARNING
  assert "there is no difference to tell" in said
  everything = [row.name for row in variants.rows()]
  said = text(everything)
  assert "33 of 33 rows are here, 0 are missing" in said
  assert "Missing:" not in said


def test_every_source_is_named():
  said = text(PAIR)
  assert said.startswith(page.MARK)
  for name in PAIR:
    assert f"[{name}](folder/{name}.json)" in said
    assert f"`sha-of-{name}`" in said
  assert "c0ffee" in said and "](folder/modes.png)" in said


def test_a_router_that_is_not_there_has_no_accuracy():
  pi0, = [line for line in text(["pi0-0"]).splitlines() if "Drive-pi0:" in line]
  assert pi0.split("|")[6:8] == [" - ", " - "]
  said, = [line for line in text(["token-0"]).splitlines()
           if "token-level" in line]
  assert said.split("|")[6:8] == [" 75.0 ", " 75.0 "]


def test_the_share_between_the_modes():
  # raw.probe: left, right, the middle, right.
  assert "| pi0 | 4 | 25.0 | 25.0 | 50.0 |" in text(["pi0-0"])


def test_a_stated_budget_is_not_called_measured():
  assert "timed to make in 10 min" in text(["pi0-0"])
  settings = raw.row("pi0-0")["settings"] | {"updates": 9}
  assert "stated, not measured" in text(["pi0-0"], settings=settings)


def keep(folder, name, **changes):
  store.write(str(folder), name, raw.row(name) | changes)


def test_rows_are_read_back_and_mixed_settings_are_refused(tmp_path):
  keep(tmp_path, "pi0-0")
  keep(tmp_path, "token-2")
  found = store.read_all(str(tmp_path))
  assert list(found) == ["pi0-0", "token-2"]
  assert store.read(str(tmp_path), "pi0-1") is None
  keep(tmp_path, "token-2", settings={"episodes": 3, "minutes": 10.0,
                                      "updates": None})
  with pytest.raises(errors.DataError, match="episodes 3 there, 28 in pi0-0"):
    store.read_all(str(tmp_path))


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"{}", b"\xff", json.dumps(
        {"format": 9, "row": "pi0-0", "settings": {}}).encode(),
    json.dumps({"format": 1, "row": "pi0-1", "settings": {}}).encode()])
def test_a_broken_row_is_named(tmp_path, content):
  (tmp_path / "rows").mkdir()
  (tmp_path / "rows" / "pi0-0.json").write_bytes(content)
  with pytest.raises(errors.DataError, match="pi0-0.json"):
    store.read(str(tmp_path), "pi0-0")


def test_a_full_disk_leaves_the_row_that_was(tmp_path, monkeypatch):
  keep(tmp_path, "pi0-0")
  before = (tmp_path / "rows" / "pi0-0.json").read_bytes()

  def full(*_):
    raise OSError(28, "No space left on device")
  monkeypatch.setattr(store.os, "replace", full)
  with pytest.raises(errors.StorageError, match="No space left"):
    keep(tmp_path, "pi0-0", seed=7)
  assert (tmp_path / "rows" / "pi0-0.json").read_bytes() == before


def test_a_digest_does_not_hang_on_the_order():
  assert store.digest({"a": 1, "b": (2,)}) == store.digest({"b": [2], "a": 1})
  assert store.digest({"a": 1}) != store.digest({"a": 2})
