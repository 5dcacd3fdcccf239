"""Which steps stay, by hand-made tables; whose leftovers go."""

import os
import shutil

import pytest

from drivemoe_jax import stepfolders


def metas(*rows):
  """(step, loss, healthy) -> {step: meta}."""
  return {step: {"score": {"min:loss": loss, "max:acc": -loss},
                 "healthy": healthy} for step, loss, healthy in rows}


STEPS = metas((10, 5.0, True), (20, 1.0, True), (30, 3.0, True),
              (40, 2.0, True), (50, 0.5, False), (60, 4.0, False))


@pytest.mark.parametrize("keep, stay", [
    (dict(keep_last=None), {10, 20, 30, 40, 50, 60}),
    (dict(keep_last=6), {10, 20, 30, 40, 50, 60}),
    (dict(keep_last=1), {40, 60}),               # 40 is the last healthy one
    (dict(keep_last=1, keep_best="min:loss"), {20, 40, 60}),
    (dict(keep_last=1, keep_best="max:acc"), {20, 40, 60}),
    (dict(keep_last=1, keep_best="min:acc"), {40, 60}),  # none has that score
    (dict(keep_last=2, keep_every=30), {30, 40, 50, 60}),
])
def test_what_stays(keep, stay):
  keep = dict(keep_every=None, keep_best="") | keep
  gone = stepfolders.superfluous(STEPS, **keep)
  assert gone == sorted(STEPS.keys() - stay)


def test_steps_of_earlier_versions_count_as_healthy_and_have_no_score():
  old = {1: {}, 2: {}}
  assert stepfolders.last_healthy(old) == 2
  assert stepfolders.best(old, "min:loss") is None
  assert stepfolders.superfluous(old, keep_last=1, keep_every=0,
                                 keep_best="min:loss") == [1]


def test_the_newest_of_equals_is_best():
  equal = metas((1, 2.0, True), (3, 2.0, True), (2, 2.0, True))
  assert stepfolders.best(equal, "min:loss") == 3
  assert stepfolders.best({}, "min:loss") is None


def leave(folder, *names):
  for name in names:
    (folder / name).mkdir()
    (folder / name / "part").write_text("x")


def test_only_leftovers_of_the_own_save_go(tmp_path):
  folder = tmp_path / "checkpoints"
  folder.mkdir()
  leave(folder, "7.orbax-checkpoint-tmp", "unfinished-9", "8")
  stepfolders.begin(folder, 9)
  leave(folder, "9.orbax-checkpoint-tmp")
  copy = tmp_path / "copy"
  shutil.copytree(folder, copy)
  stepfolders.clear(folder)
  others = {"7.orbax-checkpoint-tmp", "unfinished-9", "8"}
  assert set(os.listdir(folder)) == others
  stepfolders.clear(copy)  # the note in it speaks of another folder
  assert set(os.listdir(copy)) == others | {"9.orbax-checkpoint-tmp"}


def test_names_set_aside_do_not_collide(tmp_path):
  for _ in range(3):
    leave(tmp_path, "4")
    stepfolders.set_aside(tmp_path, "4")
  assert sorted(os.listdir(tmp_path)) == [
      "unfinished-4", "unfinished-4+", "unfinished-4++"]


def test_the_list_of_folders_says_why_one_does_not_count(tmp_path):
  leave(tmp_path, "4", "4.orbax-checkpoint-tmp", "unfinished-3", ".deleted")
  found = {f.name: (f.step, f.fault) for f in stepfolders.scan(tmp_path)}
  assert list(found) == ["4", "4.orbax-checkpoint-tmp", "unfinished-3"]
  assert found["4"] == (4, "meta/metadata is missing or cut")
  assert "did not end" in found["4.orbax-checkpoint-tmp"][1]
  assert "set aside" in found["unfinished-3"][1]
  assert stepfolders.scan(tmp_path / "nowhere") == []
