"""Observations in, plans in metres out: deterministic, batched, checked."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from data_pipeline import errors, normalize, spec
from drivemoe_jax import policy
from drivemoe_jax.evaluators import predict
from tests import policies
from tests.models import tiny


@pytest.fixture(scope="module")
def planner():
  return policies.make()


def test_a_plan_is_the_evaluator_s_prediction_in_metres(planner):
  seen = policies.observations(2)
  m = policies.model()
  proprio = normalize.apply("proprio", np.stack(
      [o["proprio"] for o in seen]), normalize.OFFICIAL_H10)
  text = np.zeros((2, m.text_len), np.int32)
  text[:, :2] = policies.PROMPT
  batch = {"images": np.stack([o["images"] for o in seen]), "text": text,
           "proprio": proprio, "goal": proprio[:, -1, 8:],
           "sample_id": np.array([o["step"] for o in seen])}
  predicted = predict.sampler(m, tiny.init(m), steps=2, seed=0)(batch)
  metres = normalize.invert("action", predicted["action"],
                            normalize.OFFICIAL_H10)
  for i, answer in enumerate(planner.plan(seen)):
    np.testing.assert_allclose(answer["actions"], metres[i], atol=1e-6)
    assert answer["camera"] == predicted["view"][i]
    assert answer["skill"] == predicted["skill_logits"][i].argmax()


def test_plans_depend_on_seed_step_and_observation_alone(planner):
  one, other = policies.observations(2)
  first = planner.plan([one])[0]
  planner.plan([other])
  assert policies.equal(planner.plan([one])[0], first)
  later = planner.plan([dict(one, step=12)])[0]
  assert not np.allclose(later["actions"], first["actions"])
  seeded = policies.make(seed=1).plan([one])[0]
  assert not np.allclose(seeded["actions"], first["actions"])


def test_metadata_tell_weights_and_sampler_apart(planner):
  said = planner.metadata
  assert policies.make().metadata == said
  changed = jax.tree.map(lambda x: x, tiny.init(policies.model()))
  bias = changed["io"]["action_out"]["bias"]
  changed["io"]["action_out"]["bias"] = bias + 1e-6
  other = policy.Policy(policies.model(), changed, normalize.OFFICIAL_H10,
                        prompt_ids=policies.PROMPT, steps=2, clip=0.5,
                        checkpoint_step=9)
  differ = {key for key in said if said[key] != other.metadata[key]}
  assert differ == {"weights", "clip"}


def test_company_does_not_change_a_plan(planner):
  seen = policies.observations(3)
  together = planner.plan(seen)
  assert len(together) == 3
  for observation, answer in zip(seen, together, strict=True):
    assert policies.equal(planner.plan([observation])[0], answer, atol=1e-5)


@pytest.fixture
def stub(monkeypatch):
  """A policy whose sampler is a stub: `planner`, what its plans are (`value`),
  the `batches` it was given, and `make` for one of other statistics."""
  policies.make()  # is kept for other tests, so with a sampler of its own
  made = types.SimpleNamespace(value=0.0, batches=[])

  def sample(batch):
    made.batches.append(batch)
    rows = len(batch["proprio"])
    return {"action": np.zeros((rows, 10, 2), np.float32) + made.value}

  monkeypatch.setattr(predict, "sampler", lambda *_, **__: sample)
  made.make = lambda statistics: policy.Policy(
      policies.model(), {}, statistics, prompt_ids=policies.PROMPT)
  made.planner = made.make(normalize.OFFICIAL_H10)
  return made


def test_warm_up_asks_for_every_size_that_will_come(stub):
  planner, batches = stub.planner, stub.batches
  assert planner.warmup(5) >= 0
  sizes = [len(batch["proprio"]) for batch in batches]
  assert sizes == [1, 2, 4, 8]
  del batches[:]
  for count in range(1, 6):
    planner.plan(policies.observations(count))
  assert {len(batch["proprio"]) for batch in batches} == set(sizes)


def test_batches_are_padded_to_powers_of_two():
  assert [policy.padded(n) for n in range(1, 10)] == [1, 2, 4, 4, 8, 8, 8, 8,
                                                      16]
  assert policy.batch_sizes(1) == [1] and policy.batch_sizes(5) == [1, 2, 4, 8]


def test_the_model_s_goal_is_the_newest_navigation_point(stub):
  seen = policies.observations(3)
  stub.planner.plan(seen)
  raw = np.stack([o["proprio"] for o in seen])
  wanted = normalize.apply("goal", raw[:, -1, 8:], normalize.OFFICIAL_H10)
  batch = stub.batches[0]
  np.testing.assert_allclose(batch["goal"][:3], wanted, atol=1e-6)
  np.testing.assert_array_equal(batch["sample_id"][:3], (11, 13, 15))


def test_plans_without_the_present_get_it_back(stub):
  planner = stub.make(dataclasses.replace(
      normalize.OFFICIAL_H10, drop_current_point=True))
  actions = planner.plan(policies.observations(1))[0]["actions"]
  assert actions.shape == (11, 2)
  np.testing.assert_array_equal(actions[0], 0)


def test_a_model_without_routers_names_no_choice(stub):
  assert set(stub.planner.plan(policies.observations(1))[0]) == {"actions"}


def test_augmentation_is_asked_for_and_the_same_each_time(planner):
  plain = policies.observations(1)[0]
  wild = dict(plain, augment=True)
  a, b = planner.plan([wild])[0], planner.plan([wild])[0]
  assert policies.equal(a, b)
  assert not np.allclose(a["actions"], planner.plan([plain])[0]["actions"])


def test_augmentation_changes_values_alone(stub):
  plain = policies.observations(1)[0]
  stub.planner.plan([dict(plain, augment=True)])
  seen = stub.batches[0]["images"][0]
  assert seen.shape == plain["images"].shape and seen.dtype == np.uint8
  assert not np.array_equal(seen, plain["images"])


def test_the_metadata_tell_what_to_send(planner):
  told = planner.metadata
  assert told["image_size"] == 16 and told["history"] == 5
  assert told["horizon"] == 10 and told["checkpoint_step"] == 9
  assert told["images"] == [list(image) for image in spec.IMAGES]
  assert planner.check(planner.example())


@pytest.mark.parametrize("changes, text", [
    ({"images": np.zeros((6, 16, 16, 3), np.uint8)}, r"uint8\(6, 16, 16, 3\)"),
    ({"images": np.zeros((7, 16, 16, 3))}, "float64"),
    ({"images": [1, 2]}, "a list"),
    ({"proprio": np.zeros((4, 10), np.float32)}, r"\(4, 10\), want float32"),
    ({"proprio": np.full((5, 10), np.nan, np.float32)}, "not finite"),
    ({"step": -1}, "is -1"), ({"step": 1.0}, "is 1.0"),
    ({"step": True}, "True"), ({"step": 2**32}, "4294967296"),
    ({"augment": 1}, "true or false"), ({"prompt": "go"}, "prompt")])
def test_what_is_no_observation_is_refused(planner, changes, text):
  with pytest.raises(errors.DataError, match=text):
    planner.plan([planner.example() | changes])


def test_a_missing_part_and_no_map_are_refused(planner):
  whole = planner.example()
  for key in whole:
    with pytest.raises(errors.DataError, match="send images, proprio and step"):
      planner.check({k: v for k, v in whole.items() if k != key})
  for thing in ([], None, 3, "x"):
    with pytest.raises(errors.DataError, match="send a map"):
      planner.check(thing)


def test_a_plan_that_is_not_finite_is_an_error(stub):
  stub.value = np.nan
  with pytest.raises(errors.NumericsError, match="--step"):
    stub.planner.plan(policies.observations(1))
