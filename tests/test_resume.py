"""What may change on resume: the rules, their words and their record."""

import pytest

from data_pipeline import errors
from drivemoe_jax import resume

SAVED = {"seed": 0, "model.layers": 4, "optim.action_lr": 1e-3,
         "data.augment": True, "global_batch": 8, "data.root": "a",
         "log_every": 10, "mesh.fsdp": 8}


def test_another_config_is_refused_by_its_first_key():
  assert resume.check_config("W", SAVED, dict(SAVED)) == []
  with pytest.raises(errors.ResumeError) as caught:
    resume.check_config("W", SAVED, SAVED | {
        "model.layers": 6, "optim.action_lr": 1e-4})
  told = str(caught.value)
  for part in ("E-RESUME", "W holds a run", "model.layers is 4 there and 6",
               "another --workdir", "--config.model.layers=4"):
    assert part in told
  assert "action_lr" not in told and "--accept-change" not in told
  with pytest.raises(errors.ResumeError, match="new is 'absent' there"):
    resume.check_config("W", SAVED, SAVED | {"new": 1})


def test_what_changes_no_number_may_change():
  assert resume.check_config("W", SAVED, SAVED | {
      "log_every": 5, "mesh.fsdp": 1, "data.root": "b"}) == []


@pytest.mark.parametrize("key, new, name", [
    ("seed", 4, "seed"), ("global_batch", 16, "global_batch"),
    ("data.augment", False, "data")])
def test_a_change_can_be_accepted_by_its_name(key, new, name):
  now = SAVED | {key: new}
  assert resume.check_config("W", SAVED, now, (name,)) == [
      {"key": key, "from": SAVED[key], "to": new}]
  others = tuple(set(resume.ACCEPTABLE) - {name})
  with pytest.raises(errors.ResumeError, match=f"--accept-change {name}$"):
    resume.check_config("W", SAVED, now, others)
  with pytest.raises(errors.ResumeError, match="model.layers"):
    resume.check_config("W", SAVED, now | {"model.layers": 1}, (name,))


def test_other_data_is_refused_or_accepted():
  old, new = ({"windows": "a1", "labels": "b2"}, {"windows": "a1",
                                                  "labels": "c3"})
  assert resume.check_data("W", old, old) == []
  with pytest.raises(errors.ResumeError) as caught:
    resume.check_data("W", old, new, ("seed",))
  for part in ("other labels", "b2 there", "c3 here", "--accept-change data"):
    assert part in str(caught.value)
  assert resume.check_data("W", old, new, ("data",)) == [
      {"key": "data of labels", "from": "b2", "to": "c3"}]


def test_names_of_changes():
  assert resume.names("data,seed") == ("data", "seed")
  assert resume.names(None) == resume.names("") == ()
  with pytest.raises(errors.ConfigError, match="model: .*data, seed, global"):
    resume.names("data,model")


def test_the_line_names_what_moved():
  now = {"hosts": 1, "devices": 4}
  line = lambda meta: resume.line(30, 8, 7, 2.13e-5, meta, now)
  same = "resume: step 30, next sample 240, seed 7, lr 2.1e-05"
  assert line({"saved_on": now}) == line({}) == same
  assert line({"saved_on": {"hosts": 2, "devices": 8}}) == (
      same + ", hosts 2 -> 1 (allowed), devices 8 -> 4 (allowed)")


def test_changes_add_up():
  first = {"key": "seed", "from": 0, "to": 1}
  second = {"key": "seed", "from": 1, "to": 2}
  meta = {"changes": resume.recorded({}, 10, [first])}
  assert resume.recorded(meta, 20, [second]) == [
      {"step": 10} | first, {"step": 20} | second]
  assert resume.told(20, [second]) == [
      "accepted change at step 20: seed 1 -> 2"]
