"""Numbers by expert, and the line about one that nobody picks."""

import numpy as np
import pytest

from drivemoe_jax import health

LOAD = np.array([0.5, 0.0, 0.5])


def values(load=LOAD):
  return {"loss": 1.0, "expert_load": load, "expert_weight": load / 2,
          "routing_entropy": 0.3}


def feed(loads, window=3):
  said, dead = [], []
  watch = health.Experts(window, said.append)
  for step, load in enumerate(loads, 1):
    dead.append(watch(step, values(np.asarray(load)))["dead_experts"])
  return said, dead


def test_vectors_become_a_number_for_each_expert():
  got = health.Experts(0, print)(1, values())
  assert got == {
      "loss": 1.0, "routing_entropy": 0.3, "expert_load/0": 0.5,
      "expert_load/1": 0.0, "expert_load/2": 0.5, "expert_weight/0": 0.25,
      "expert_weight/1": 0.0, "expert_weight/2": 0.25}


def test_seven_experts_are_named_by_their_skills():
  got = health.Experts(0, print)(1, values(np.arange(7) / 21))
  assert got["expert_load/merging"] == 0.0
  assert got["expert_load/normal"] == pytest.approx(6 / 21)


def test_a_model_without_skill_router_passes_through():
  assert health.Experts(3, print)(1, {"loss": 2.0}) == {"loss": 2.0}


def test_a_dead_expert_is_named_once_per_silence():
  awake = [0.5, 0.2, 0.3]
  said, dead = feed([LOAD] * 5 + [awake] + [LOAD] * 3)
  assert dead == [0, 0, 1, 1, 1, 0, 0, 0, 1]
  assert [line.split(":")[1] for line in said] == [" step 3", " step 9"]
  assert said[0].startswith("W-MOE: step 3: skill expert 1 (1) got no pick "
                            "for 3 updates")


def test_experts_that_are_picked_now_and_then_live():
  said, dead = feed([LOAD, LOAD, [0.4, 0.2, 0.4]] * 4)
  assert not said and not any(dead)


def test_an_update_that_was_not_finite_counts_for_nothing():
  said, dead = feed([LOAD, LOAD, [np.nan] * 3, LOAD])
  assert dead == [0, 0, 0, 1] and len(said) == 1


def test_without_a_window_nobody_is_dead():
  said = []
  watch = health.Experts(0, said.append)
  assert all("dead_experts" not in watch(i, values()) for i in range(300))
  assert not said
