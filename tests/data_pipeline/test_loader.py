"""Batches: contents, exact resume, hosts, the cache."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline import (
    bench2drive,
    errors,
    frames,
    images,
    loader,
    normalize,
    order,
    spec,
    windows,
)
from tests.data_pipeline import fixtures
from tests.data_pipeline.batches import (
    BATCH,
    SIZE,
    TEXT,
    collect,
    evaluate,
    same,
    train,
)

FIELDS = spec.batch_spec(image_size=SIZE, text_len=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("routes")
  for index, length in enumerate((17, 14)):
    fixtures.write_route(root, fixtures.NAME.format(index), frames=length)
  return root


@pytest.fixture(scope="module")
def data(folder):
  return collect(folder)


@pytest.mark.parametrize("augment", [True, False])
def test_how_many_samples_are_loaded_in_a_call_changes_nothing(
    data, augment, monkeypatch):
  together = train(data, 9, augment=augment)             # past an epoch's end
  monkeypatch.setattr(images, "PIXELS_AT_ONCE", 0)
  assert images.group(BATCH, 1) == 1
  same(together, train(data, 9, augment=augment))


def test_training_batches_hold_the_sampled_windows(data):
  statistics = normalize.compute(data)
  for step, batch in enumerate(train(data, 6, augment=False)):
    assert spec.check_batch(batch, FIELDS) == BATCH
    ids = loader.sample_ids(1, step, BATCH, len(data))
    np.testing.assert_array_equal(batch["sample_id"], ids)
    np.testing.assert_array_equal(batch["text"][0], [2, 5, 7, 0, 0, 0])
    for kind in ("proprio", "goal", "action"):
      np.testing.assert_array_equal(
          batch[kind],
          normalize.apply(kind, getattr(data, kind)[ids], statistics))
    np.testing.assert_array_equal(batch["skill"], data.skill[ids])
    np.testing.assert_array_equal(batch["camera"], data.camera[ids])


def test_images_are_the_frames_of_the_window(data):
  batch = train(data, 1, augment=False)[0]
  for row, index in enumerate(batch["sample_id"]):
    name = data.routes[data.route_index[index]]
    t = data.frame[index]
    want = [("rgb_front", t), ("rgb_front", max(t - 1, 0)),
            ("rgb_front_left", t), ("rgb_front_right", t), ("rgb_back", t),
            ("rgb_back_left", t), ("rgb_back_right", t)]
    for image, (camera, frame) in zip(batch["images"][row], want, strict=True):
      source = fixtures.jpeg(
          spec.CAMERA_FOLDERS.index(camera), int(frame), salt=name)
      np.testing.assert_array_equal(image, images.decode(source, SIZE))


def test_unlabelled_windows_give_batches_without_labels(folder):
  data = windows.collect(str(folder), None,
                         bench2drive.list_routes(str(folder)))
  batch = train(data, 1)[0]
  assert "camera" not in batch and "skill" not in batch
  assert spec.check_batch(batch, FIELDS) == BATCH


def test_resume_gives_the_same_batches(data):
  whole = train(data, 9)
  same(whole[5:], train(data, 4, start_step=5))


def on_hosts(data, shares, steps, **options):
  """Global batches put together from those of hosts with these rows each."""
  parts = [train(data, steps, rows=np.array(rows), **options)
           for rows in shares]
  order = np.argsort(np.concatenate(shares))
  return [{key: np.concatenate([part[key] for part in row])[order]
           for key in row[0]} for row in zip(*parts, strict=True)]


def test_hosts_share_the_global_batch(data):
  whole = train(data, 4)
  same(whole, on_hosts(data, ([0, 1], [2, 3]), 4))
  same(whole, on_hosts(data, ([0, 3], [1, 2]), 4))


def test_the_order_outlives_any_change_of_hosts(data):
  """Three epochs and a bit, with a stop at a step of no significance."""
  steps = 3 * len(data) // BATCH + 1
  whole = train(data, steps, augment=False)
  ids = np.concatenate([batch["sample_id"] for batch in whole])
  for epoch in range(3):
    dealt = ids[epoch * len(data):(epoch + 1) * len(data)]
    assert sorted(dealt) == list(range(len(data)))
  one, two, four = ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0], [1], [2], [3]])
  for before, after in ((one, four), (two, one), (four, two)):
    same(whole, on_hosts(data, before, 5, augment=False) + on_hosts(
        data, after, steps - 5, augment=False, start_step=5))


def test_weights_change_which_samples_come(data):
  weights = order.balanced(np.arange(len(data)) // 10)  # ten of 0, one of 1
  dealt = [batch["sample_id"] for batch in train(
      data, 11, augment=False, weights=weights)]
  ids = np.concatenate(dealt)
  np.testing.assert_array_equal(ids, np.concatenate([
      loader.sample_ids(1, step, BATCH, len(data), weights)
      for step in range(11)]))
  assert (ids == 10).sum() == 22  # half of four epochs


def test_the_memory_budget_is_shared_between_batches_and_images():
  batch_gb = 16 * 7 * 112 * 112 * 3e-9
  for budget, prefetch, kept in ((0.0, 1, 0), (3.5, 1, 0.5), (4.0, 2, 0),
                                 (9.0, 2, 5.0)):
    found = loader.share_memory(budget * batch_gb, 16, 112)
    np.testing.assert_allclose(found, (prefetch, kept * batch_gb), atol=1e-9)


def test_cache_and_threads_change_nothing(data):
  whole = train(data, 9, ram_budget_gb=0.0, workers=1)
  same(whole, train(data, 9, ram_budget_gb=1.0, workers=3))
  # Room for ten images only.
  same(whole, train(data, 9, ram_budget_gb=10.5 * SIZE * SIZE * 3e-9))


@pytest.mark.parametrize("views", ["label", (), (1, 4)])
def test_views_that_nobody_looks_at_stay_black(data, views):
  (part,), (whole,) = (train(data, 1, augment=False, views=v)
                       for v in (views, None))
  for row in range(BATCH):
    seen = (whole["camera"][row],) if views == "label" else views
    kept = np.array([i < 2 or i - 2 in seen for i in range(7)])
    np.testing.assert_array_equal(part["images"][row], np.where(
        kept[:, None, None, None], whole["images"][row], 0))
  assert whole["images"].any((2, 3, 4)).all()


def test_views_that_nobody_looks_at_are_not_decoded(data, monkeypatch):
  paths, load = [], images.load
  monkeypatch.setattr(images, "load", lambda path, size: (
      paths.append(path), load(path, size))[1])
  train(data, 1, views=(1, 4))
  assert {path.split(os.sep)[-2] for path in paths} == {
      spec.IMAGES[i][0] for i in (0, 1, 3, 6)}


def test_labelled_views_need_labels(folder):
  bare = windows.collect(str(folder), None,
                         bench2drive.list_routes(str(folder)))
  with pytest.raises(errors.DataError, match="camera labels"):
    train(bare, 1, views="label")


def test_augmentation_is_drawn_per_place_and_image(data):
  plain, first = train(data, 8, augment=False), train(data, 8)
  assert all((a["images"] != b["images"]).any()
             for a, b in zip(plain, first, strict=True))
  # The same sample comes back an epoch later with other draws.
  seen = {}
  for batch in first:
    for index, pixels in zip(batch["sample_id"], batch["images"], strict=True):
      if index in seen:
        assert (seen[index] != pixels).any()
      seen[index] = pixels
  # Frame 0 is its own past, yet image 0 and 1 are cropped apart.
  start = next(seen[i] for i in seen if data.frame[i] == 0)
  assert (start[0] != start[1]).any()
  shared = train(data, 8, tf_shared_seed=True)
  assert (shared[0]["images"] != first[0]["images"]).any()


def test_every_file_is_decoded_once(data, monkeypatch):
  decoded = []
  load = images.load
  monkeypatch.setattr(
      images, "load", lambda path, size: decoded.append(path) or load(path,
                                                                      size))
  for budget, most in ((1.0, 1), (0.0, 99)):
    decoded.clear()
    store = frames.FrameStore(data, SIZE, budget)
    for index in [*range(len(data)), *range(len(data))]:
      store.sample(index)
    counts = [decoded.count(path) for path in set(decoded)]
    assert len(counts) == 6 * len(data) and max(counts) <= most
  assert max(counts) > 1


def test_changing_a_sample_leaves_the_store_alone(data):
  store = frames.FrameStore(data, SIZE, 1.0)
  first = store.sample(3)
  kept = first.copy()
  first[:] = 0
  np.testing.assert_array_equal(store.sample(3), kept)


def test_statistics_of_another_horizon_are_refused(data):
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 3"):
    loader.train_batches(
        data_of_horizon_3(data), normalize.compute(data), batch_size=2, seed=0,
        **TEXT)
  with pytest.raises(errors.DataError, match="horizon 10.*horizon 3"):
    loader.eval_batches(
        data_of_horizon_3(data), normalize.compute(data), batch_size=2, **TEXT)


def data_of_horizon_3(data):
  return windows.collect(data.root, None, data.routes, horizon=3)


def test_evaluation_visits_all_in_order_and_pads(data):
  got = evaluate(data)
  assert len(data) == 11 and len(got) == 3
  assert all(spec.check_batch(batch, FIELDS) == BATCH for batch in got)
  ids = np.concatenate([b["sample_id"] for b in got])
  valid = np.concatenate([b["valid"] for b in got])
  assert ids.tolist() == [*range(11), 10]
  assert valid.tolist() == [True] * 11 + [False]
  np.testing.assert_array_equal(got[2]["images"][2], got[2]["images"][3])


def test_evaluation_pixels_are_the_unaugmented_training_ones(data):
  by_id = {}
  for batch in train(data, 6, augment=False):
    by_id |= dict(zip(batch["sample_id"], batch["images"], strict=True))
  for batch in evaluate(data, indices=[7, 2, 9]):
    assert batch["sample_id"].tolist() == [7, 2, 9, 9]
    assert batch["valid"].tolist() == [True, True, True, False]
    for index, pixels in zip(batch["sample_id"], batch["images"], strict=True):
      np.testing.assert_array_equal(pixels, by_id[index])


def test_evaluation_may_augment_by_sample(data):
  plain = {i: x for b in evaluate(data)
           for i, x in zip(b["sample_id"], b["images"], strict=True)}
  first = evaluate(data, augment=True)
  same(first, evaluate(data, augment=True))
  for batch in first:
    for index, image in zip(batch["sample_id"], batch["images"], strict=True):
      assert (image != plain[index]).any()
  # A sample's draws do not depend on its company.
  alone = evaluate(data, augment=True, indices=[6], batch_size=1)[0]
  np.testing.assert_array_equal(alone["images"][0], first[1]["images"][2])
  for options in (dict(seed=1), dict(tf_shared_seed=True)):
    other = evaluate(data, augment=True, **options)
    assert (other[0]["images"] != first[0]["images"]).any()


def test_plans_without_the_present(folder):
  data = collect(folder, drop_current_point=True)
  batch = train(data, 1)[0]
  assert spec.check_batch(batch, FIELDS) == BATCH
  low, high = normalize.compute(data).bounds("action")
  want = 2 * (data.action[batch["sample_id"], 1:] - low) / (high - low) - 1
  np.testing.assert_allclose(batch["action"], want, atol=1e-6)


SCRIPT = """
import os, sys
from tests.data_pipeline import batches as t
import pathlib
data = t.collect(pathlib.Path(sys.argv[1]))
t.evaluate(data)
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
t.train(data, 2)  # left behind with batches on their way
import tensorflow as tf
assert not tf.config.get_visible_devices("GPU")
assert os.environ["XLA_FLAGS"] == "--xla_flag_that_only_jax_knows=1"
"""


def test_evaluation_needs_no_tensorflow_and_training_is_quiet(folder):
  env = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
  env["XLA_FLAGS"] = "--xla_flag_that_only_jax_knows=1"
  done = subprocess.run(
      [sys.executable, "-c", SCRIPT, str(folder)], env=env,
      cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True,
      timeout=300, check=False)
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
