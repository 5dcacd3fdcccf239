"""Warnings: when each is said, by hand, and that a well run says none."""

import math

import numpy as np
import pytest

from data_pipeline import normalize
from drivemoe_jax import health
from tests.evaluators import worlds

LOAD = np.array([0.5, 0.0, 0.5])
EVEN = np.full(3, 1 / 3)


def values(load=EVEN, loss=1.0, **more):
  return {"loss": loss, "loss_action": loss / 2, "grad_norm": 3.0, "lr": 1e-3,
          "expert_load": load, "expert_weight": load / 2,
          "routing_entropy": 0.3, **more}


def watch(window=3, spike=5.0, pause=500):
  """(Watch, lines said, [(step, line)] kept)."""
  said, kept = [], []
  warn = health.Warnings(said.append, lambda *pair: kept.append(pair), pause)
  return health.Watch(warn, window=window, spike=spike), said, kept


def feed(updates, **kw):
  """Lines said over {metrics} of one update after the other, and the
  numbers that came out."""
  look, said, _ = watch(**kw)
  return said, [look(step, x) for step, x in enumerate(updates, 1)]


def test_vectors_become_a_number_for_each_class():
  _, (got,) = feed([values(LOAD, camera_share=np.eye(5)[3],
                           camera_labels=np.eye(5)[3])], window=0)
  assert got == {
      "loss": 1.0, "loss_action": 0.5, "grad_norm": 3.0, "lr": 1e-3,
      "routing_entropy": 0.3, "expert_load/0": 0.5, "expert_load/1": 0.0,
      "expert_load/2": 0.5, "expert_weight/0": 0.25, "expert_weight/1": 0.0,
      "expert_weight/2": 0.25, "camera_share/front_left": 0.0,
      "camera_share/front_right": 0.0, "camera_share/back": 0.0,
      "camera_share/back_left": 1.0, "camera_share/back_right": 0.0,
      "camera_spread": 1.0, "warnings": 0}


def test_seven_experts_are_named_by_their_skills():
  _, (got,) = feed([values(np.arange(7) / 21)])
  assert got["expert_load/merging"] == 0.0
  assert got["expert_load/normal"] == pytest.approx(6 / 21)


def test_the_spread_is_the_number_of_choices_in_use():
  _, (got,) = feed([values(skill_share=np.array([0.5, 0.5, 0.0]))])
  assert got["skill_spread"] == pytest.approx(2.0)


def test_a_model_without_routers_passes_through():
  _, (got,) = feed([{"loss": 2.0}])
  assert got == {"loss": 2.0, "warnings": 0}


def dead(loads, **kw):
  said, found = feed([values(np.asarray(load)) for load in loads], **kw)
  return said, [x["dead_experts"] for x in found]


def test_a_dead_expert_is_named_once_per_silence():
  awake = [0.5, 0.2, 0.3]
  said, count = dead([LOAD] * 5 + [awake] + [LOAD] * 3, pause=0)
  assert count == [0, 0, 1, 1, 1, 0, 0, 0, 1]
  assert [line.split(":")[1] for line in said] == [" step 3", " step 9"]
  assert said[0].startswith("W-MOE: step 3: skill expert 1 (1) got no pick "
                            "for 3 updates")


def test_experts_that_are_picked_now_and_then_live():
  said, count = dead([LOAD, LOAD, [0.4, 0.2, 0.4]] * 4)
  assert not said and not any(count)


def test_an_update_that_was_not_finite_counts_for_nothing():
  said, count = dead([LOAD, LOAD, [np.nan] * 3, LOAD])
  assert count == [0, 0, 0, 1] and len(said) == 1


def test_without_a_window_nobody_is_dead():
  said, found = feed([values(LOAD)] * 300, window=0)
  assert not said and "dead_experts" not in found[0]


# Losses e^-0.1, 1, e^0.1 in turn: the median is 1, the median distance of
# their logarithms 0.1, so the deviation 0.148 and eight of them e^1.186 = 3.27.
USUAL = [math.exp(0.1 * (i % 3 - 1)) for i in range(21)]


def spikes(losses, **kw):
  return feed([values(loss=x) for x in losses], **kw)[0]


@pytest.mark.parametrize("factor, loss, said", [
    (5.0, 4.9, 0), (5.0, 5.1, 1),   # the factor decides
    (2.0, 3.2, 0), (2.0, 3.35, 1),  # the deviation does
    (0, 1e6, 0)])
def test_a_loss_spikes_beyond_both_bounds(factor, loss, said):
  assert len(spikes(USUAL + [loss], spike=factor)) == said


def test_a_spike_is_told_with_its_cause():
  updates = [values(loss=x, loss_camera_weighted=0.1) for x in USUAL]
  said, found = feed(updates + [values(
      loss=9.0, loss_camera_weighted=8.0) | {"loss_action": 1.0}])
  assert said == [
      "W-LOSS: step 22: loss 9 is 9.0 times its median of the last 100 "
      "updates; loss_camera_weighted grew most, from 0.1 to 8, gradient norm "
      "3, lr 0.001. If the frames in warnings.jsonl are fine, lower the "
      "learning rate"]
  assert [x["warnings"] for x in found[-2:]] == [0, 1]


def test_a_few_losses_are_no_yardstick_and_skipped_ones_do_not_count():
  assert not spikes(USUAL[:19] + [9.0])
  assert not spikes(USUAL[:19] + [math.nan, 9.0])
  assert len(spikes(USUAL[:19] + [math.nan, 1.0, 9.0])) == 1
  assert not spikes(USUAL + [math.inf])


def test_a_loss_that_moves_for_good_is_the_new_usual():
  said = spikes(USUAL * 5 + [9.0] * 200, pause=0)
  assert 10 < len(said) < 60


def shares(camera, labels=None, updates=3):
  more = {"camera_share": np.array(camera)}
  if labels is not None:
    more["camera_labels"] = np.array(labels)
  return feed([values(**more)] * updates)[0]


@pytest.mark.parametrize("camera, labels, said", [
    ([0.99, 0.01], [0.5, 0.5], 0),       # entropy 0.0560
    ([0.995, 0.005], [0.5, 0.5], 1),     # 0.0315
    ([0.995, 0.005], None, 1),
    ([0.995, 0.005], [0.88, 0.12], 1),   # 0.367
    ([0.995, 0.005], [0.92, 0.08], 0)])  # 0.279: so are the labels
def test_a_router_collapses_onto_one_choice(camera, labels, said):
  found = shares(camera, labels)
  assert len(found) == said
  assert not shares(camera, labels, updates=2)
  assert all(line.startswith("W-MOE: step 3: the camera router collapsed: it "
                             "gave 99.5%") and " to 0 for 3 updates" in line
             for line in found)


def test_a_router_that_is_sure_of_one_class_at_a_time_is_well():
  turns = [values(skill_share=np.eye(3)[i % 3]) for i in range(9)]
  assert not feed(turns)[0]


@pytest.mark.parametrize("data, model, said", [
    (0.049, 0.02, []), (0.06, 0.02, ["recorded"]),
    (0.02, 0.149, []), (0.02, 0.16, ["model's"]),
    (0.049, 0.16, ["model's"]), (0.08, 0.159, ["recorded"])])
def test_plans_out_of_range_are_told(data, model, said):
  lines, _ = feed([values(action_outside=data, estimate_outside=model)] * 6)
  assert len(lines) == len(said)
  for line, word in zip(lines, said, strict=True):
    # A model's first window has none to compare with.
    assert line.startswith(f"W-ACT: step {3 if word == 'recorded' else 6}: ")
    assert word in line


def test_a_model_that_comes_in_range_by_itself_is_left_alone():
  falling = [values(action_outside=0.02, estimate_outside=0.9 * 0.45 ** (
      i // 3)) for i in range(9)]
  assert not feed(falling)[0]
  assert len(feed(falling[:6] + falling[:3])[0]) == 1


def test_a_warning_is_not_said_all_the_time():
  look, said, kept = watch(pause=10)
  for step, loss in enumerate(USUAL + [9.0, 9.0, 9.0] + [1.0] * 10 + [9.0], 1):
    last = look(step, values(loss=loss))
  assert len(said) == 2 and "(2 more like it before)" in said[1]
  assert kept == [(22, said[0]), (35, said[1])]
  assert last["warnings"] == 4


def scaled(windows, half=10.0):
  """Statistics that hold plans of up to `half` metres."""
  low = dict.fromkeys(normalize.KEYS, -half)
  return normalize.Statistics(windows.horizon, low,
                              dict.fromkeys(normalize.KEYS, half))


def check(windows, **kw):
  said = []
  health.check_plans(windows, scaled(windows, **kw), 1.0,
                     health.Warnings(said.append))
  return said


def test_recorded_plans_are_looked_at_in_metres():
  assert not check(worlds.windows())
  said, = check(worlds.windows(), half=4.0)
  assert said.startswith("W-ACT: step 0: ") and "m ahead" in said
  odd = worlds.windows()
  odd.action[25, 4] += (0, 9.0)
  said, = check(odd)
  assert said.startswith("W-ACT: step 0: 1 of 160 recorded plans are none a "
                         "car can drive. First: TJunction_Town01_Route1_"
                         "Weather0/00005: reaches 9.")
