"""The whole evaluation on a world where only eyes can tell the turns."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax.evaluators import suite
from tests.evaluators import worlds


def run(driver, of=None, **kwargs):
  of = worlds.windows() if of is None else of
  return suite.evaluate(
      driver, worlds.loader(of, kwargs.pop("load_size", 32)), of, of,
      to_metres=lambda action: 10 * action, **kwargs)


@pytest.fixture(scope="module")
def sighted():
  return run(worlds.sighted)


def test_a_driver_with_eyes_beats_the_yardsticks(sighted):
  scores, arrays = sighted
  assert scores["n"] == 160 and scores["routes"] == 8
  assert scores["open_loop"]["ade"] < 1e-6
  np.testing.assert_allclose(arrays["pred"], arrays["gt"], atol=1e-5)
  compared = scores["yardsticks"]["constant_velocity"]
  np.testing.assert_allclose(compared["model_lower_by_percent"], 100, atol=1e-3)
  mlp = scores["yardsticks"]["ego_mlp"]["open_loop"]
  # Half the routes turn and no ego state tells which: the mean is all it has.
  assert mlp["subsets"]["turns"]["ade"] > 0.1
  assert scores["yardsticks"]["ego_mlp"]["model_ratio"]["turns"] < 1e-3


def test_subsets_hold_the_turning_routes(sighted):
  scores, arrays = sighted
  parts = scores["open_loop"]["subsets"]
  assert parts["all"]["n"] == 160 and parts["turns"]["n"] == 80
  assert parts["begins_to_brake"] is None
  assert parts["turns_or_brakes"]["n"] == 80
  assert scores["open_loop"]["per_skill"]["Merging"]["n"] == 80
  assert scores["open_loop"]["per_skill"]["Overtaking"] is None
  assert (arrays["heading_change"][arrays["turns"]] > 0.17).all()


def test_shuffled_images_cost_a_driver_with_eyes(sighted):
  scores, arrays = sighted
  shuffled = scores["shuffled_images"]
  assert scores["routers"]["camera"]["accuracy"] == 1.0
  # The images of another route show the other kind of road 4 times in 7.
  for router in ("camera", "skill"):
    assert 40 < shuffled["accuracy_drop_points"][router] < 75
  wrong = np.abs(arrays["shuffled"] - arrays["gt"]).max((1, 2)) > 0.01
  assert 0.4 < wrong.mean() < 0.75


def test_shuffled_images_cost_a_blind_driver_nothing():
  scores, arrays = run(worlds.blind)
  assert scores["routers"] == {"camera": None, "skill": None}
  shuffled = scores["shuffled_images"]
  assert shuffled["accuracy_drop_points"] == {"camera": None, "skill": None}
  assert shuffled["ade_increase_percent"]["turns_or_brakes"] == 0.0
  np.testing.assert_array_equal(arrays["shuffled"], arrays["pred"])
  assert (arrays["view"] == -1).all() and "camera_logits" not in arrays


def test_the_growth_of_the_error_is_that_of_the_saved_plans():
  def shaky(batch):  # 0.1 m to the right, so that no error is 0
    plan = worlds.sighted(batch)
    plan["action"] += (0, 0.01)
    return plan

  scores, arrays = run(shaky)
  turning = arrays["turns"]
  errors_of = lambda name, rows: np.linalg.norm(
      arrays[name][rows] - arrays["gt"][rows], axis=-1)[:, 1:].mean()
  growth = scores["shuffled_images"]["ade_increase_percent"]
  for subset, rows in (("all", slice(None)), ("turns", turning)):
    ratio = errors_of("shuffled", rows) / errors_of("pred", rows)
    assert ratio > 1.5
    np.testing.assert_allclose(growth[subset], 100 * (ratio - 1), rtol=1e-5)
  against = scores["yardsticks"]["ego_mlp"]["model_ratio"]
  np.testing.assert_allclose(
      against["turns"],
      errors_of("pred", turning) / errors_of("ego_mlp", turning), rtol=1e-5)


def test_scores_do_not_depend_on_how_windows_are_loaded(sighted):
  scores, _ = run(worlds.sighted, load_size=7)
  assert json.dumps(scores) == json.dumps(sighted[0])


def test_scores_are_strict_json(sighted):
  json.dumps(sighted[0], allow_nan=False)


def test_limit_takes_the_same_windows_from_all_routes(sighted):
  scores, arrays = run(worlds.sighted, limit=16)
  assert scores["n"] == 16 and scores["routes"] == 8
  ids = arrays["sample_id"]
  near = functools.partial(np.testing.assert_allclose, atol=1e-5)
  assert len(set(ids.tolist())) == 16
  for name, array in arrays.items():
    if name != "shuffled":  # its images come from among the 16
      same = (near if array.dtype.kind == "f"
              else np.testing.assert_array_equal)
      same(array, sighted[1][name][ids])


def test_windows_are_named_by_their_hash(sighted):
  other, _ = run(worlds.blind)
  part, _ = run(worlds.blind, limit=16)
  assert other["windows_sha256"] == sighted[0]["windows_sha256"]
  assert part["windows_sha256"] != other["windows_sha256"]


def test_one_route_alone_cannot_exchange_images():
  said = []
  scores, arrays = run(worlds.sighted, worlds.windows(routes=1),
                       progress=said.append)
  assert scores["shuffled_images"] is None and "shuffled" not in arrays
  assert any("cannot exchange images" in line for line in said)


def test_windows_without_labels_still_drive():
  of = worlds.windows()
  bare = dataclasses.replace(of, camera=None, skill=None)
  load = worlds.loader(of, 32)

  def without(ids):
    return ({k: v for k, v in batch.items() if k not in ("camera", "skill")}
            for batch in load(ids))

  scores, arrays = suite.evaluate(
      worlds.sighted, without, bare, bare, to_metres=lambda a: 10 * a)
  assert scores["routers"] == {"camera": None, "skill": None}
  assert set(arrays["skill"].tolist()) == {-1}
  assert not any(scores["open_loop"]["per_skill"].values())


def unreadable(of, count):
  """A loader that cannot read the first `count` windows."""
  def load(ids):
    for batch in worlds.loader(of, 32)(ids):
      yield batch | {"valid": batch["valid"] & (batch["sample_id"] >= count)}
  return load


@pytest.mark.parametrize("count, cap, told", [
    (2, 0.0, "2 of 160 windows .* allows 0"), (2, 0.001, "allows 1"),
    (160, 1.0, "160 of 160")])
def test_no_score_of_a_few_readable_windows(count, cap, told):
  of = worlds.windows()
  with pytest.raises(errors.DataError, match=told):
    suite.evaluate(worlds.blind, unreadable(of, count), of, of,
                   to_metres=lambda a: a, skip_cap=cap)


def test_windows_left_out_are_counted(sighted):
  of = worlds.windows()
  scores, _ = suite.evaluate(worlds.blind, unreadable(of, 2), of, of,
                             to_metres=lambda a: a, skip_cap=0.01)
  assert (scores["n"], scores["left_out"]) == (158, 2)
  assert sighted[0]["left_out"] == 0


def test_no_window_is_an_error():
  with pytest.raises(errors.DataError, match="no window to evaluate"):
    run(worlds.blind, worlds.windows(routes=0))
