"""The batch contract, the label tables, the class weights, the prompt."""

import numpy as np
import pytest

from data_pipeline import errors, prompt, spec


def test_fake_batch_passes_and_is_seeded():
  sizes = dict(image_size=28, history=3, horizon=7, text_len=6)
  batch = spec.fake_batch(4, seed=1, prompt_ids=(2, 5), **sizes)
  assert spec.check_batch(batch, spec.batch_spec(**sizes)) == 4
  again = spec.fake_batch(4, seed=1, prompt_ids=(2, 5), **sizes)
  other = spec.fake_batch(4, seed=2, prompt_ids=(2, 5), **sizes)
  for key in batch:
    np.testing.assert_array_equal(batch[key], again[key])
  assert (batch["proprio"] != other["proprio"]).any()
  assert set(spec.BATCH_SPEC) - set(batch) == {"valid"}


def test_full_size_is_the_default():
  assert spec.check_batch(spec.fake_batch(1)) == 1
  assert spec.BATCH_SPEC["images"].shape == (7, 224, 224, 3)
  assert spec.BATCH_SPEC["action"].shape == (10, 2)


def test_check_batch_names_key_got_wanted_and_meaning():
  sizes = dict(image_size=8)
  fields = spec.batch_spec(**sizes)
  batch = spec.fake_batch(2, **sizes)
  broken = {
      "goal": (batch["proprio"][:, 0, :3],
               r"'goal'.* is float32\[2,3\], want float32\[2,2\]: .*nav"),
      "proprio": (batch["proprio"].astype(np.float64), "float64.*want float32"),
      "skill": (batch["skill"][:1], r"int32\[1\], want int32\[2\]: skill"),
  }
  for key, (value, message) in broken.items():
    with pytest.raises(errors.DataError, match=message):
      spec.check_batch(batch | {key: value}, fields)
  with pytest.raises(errors.DataError, match="lacks 'action': .*future"):
    spec.check_batch({k: v for k, v in batch.items() if k != "action"}, fields)
  with pytest.raises(errors.DataError, match="unknown arrays.*'speed'"):
    spec.check_batch(batch | {"speed": batch["goal"]}, fields)


def test_labels_may_be_absent_but_not_wrong():
  batch = spec.fake_batch(2, image_size=8)
  del batch["camera"], batch["skill"]
  assert spec.check_batch(batch, spec.batch_spec(image_size=8)) == 2


def test_every_label_string_and_class_is_used():
  assert {int(v) for v in spec.CAMERA_OF_LABEL.values()} == set(range(5))
  assert {int(v) for v in spec.SKILL_OF_LABEL.values()} == set(range(7))
  assert spec.CAMERA_OF_LABEL["NULL"] == spec.Camera.BACK == 2
  assert spec.SKILL_OF_LABEL["TRAFFIC_LIGHT"] == 5


def test_view_v_is_image_v_plus_2():
  for view in spec.Camera:
    folder, lag = spec.IMAGES[view + 2]
    assert (folder, lag) == (f"rgb_{view.name.lower()}", 0)
  assert len(spec.CAMERA_FOLDERS) == 6


def test_official_alphas():
  np.testing.assert_allclose(
      spec.alphas(spec.CAMERA_COUNTS),
      [0.07350, 0.29106, 0.01596, 0.18874, 0.43075], atol=1e-5)
  np.testing.assert_allclose(
      spec.alphas(spec.SKILL_COUNTS),
      [0.05449, 0.69969, 0.02423, 0.06009, 0.13940, 0.01599, 0.00612],
      atol=1e-5)
  assert sum(spec.CAMERA_COUNTS) == sum(spec.SKILL_COUNTS) == 225348


def test_absent_class_weighs_nothing():
  np.testing.assert_allclose(spec.alphas([10, 0, 30]), [0.75, 0, 0.25])


def test_prompt_is_padded_with_zeros():
  assert prompt.text_ids((2, 9), 4).tolist() == [2, 9, 0, 0]
  assert prompt.text_ids(prompt.OFFICIAL_IDS, 20)[:5].tolist() == [
      2, 33475, 51725, 108, 0]
  for wrong, message in (((1, 2, 3), "3 ids but text_len is 2"),
                         ((), "one or more"), ((2, 0), "above 0")):
    with pytest.raises(errors.ConfigError, match=message):
      prompt.text_ids(wrong, 2)
