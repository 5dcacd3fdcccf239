"""A config may name a prepared folder where it names raw routes."""

import itertools

import numpy as np
import pytest

from data_pipeline import errors, normalize, prepare, raw_routes, windows
from drivemoe_jax import datasets, resume
from launch import cli
from tests.data_pipeline import fixtures

SIZE = 28


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """raw/ and prepared/ of the same three routes."""
  root = tmp_path_factory.mktemp("data") / "raw"
  names = [fixtures.NAME.format(i) for i in range(3)]
  for name, frames in zip(names, (24, 20, 22), strict=True):
    fixtures.write_route(root, name, frames=frames)
  (root / "val.txt").write_text(names[1] + "\n")
  source = raw_routes.RawRoutes(str(root), str(root / "labels"))
  prepare.prepare(
      source, str(root.parent / "prepared"),
      prepare.Options(size=SIZE, encoding="png", horizons=(10,)),
      {names[1]}, say=lambda line: None)
  return root.parent


def load(folder, kind, **changes):
  raw = folder / "raw"
  values = {"data.root": folder / kind, "data.labels_root": raw / "labels",
            "data.val_list": raw / "val.txt", "data.workers": 1,
            "model.image_size": SIZE} | changes
  return cli.load_config("configs/tiny.py", [
      f"--config.{key}={value}" for key, value in values.items()])


def samples(config, split):
  return datasets.windows(config, "", split)


def test_a_run_is_the_same_on_raw_and_on_prepared_routes(folder, tmp_path):
  raw, ours = (load(folder, kind) for kind in ("raw", "prepared"))
  for split in ("train", "val"):
    one, other = samples(raw, split), samples(ours, split)
    for key in ("routes", "route_index", *windows.SAMPLE_ARRAYS):
      np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
  train = samples(ours, "train")
  same = resume.fingerprint(samples(raw, "train"))
  assert resume.fingerprint(train) == same
  statistics = datasets.statistics(ours, str(tmp_path), train)
  beside = folder / "prepared" / normalize.file_name(10)
  assert statistics == normalize.load(str(beside), 10)
  first = [list(itertools.islice(datasets.train_batches(
      config, samples(config, "train"), statistics, 3, None), 2))
      for config in (raw, ours)]
  for one, other in zip(*first, strict=True):
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


def test_what_does_not_fit_is_refused(folder):
  config = load(folder, "prepared", **{"data.nan_heading": "zero"})
  with pytest.raises(errors.ConfigError, match="nan_heading"):
    samples(config, "train")
  config = load(folder, "prepared", **{"model.image_size": 56})
  train = samples(config, "train")
  with pytest.raises(errors.ConfigError, match="side 28, the model takes 56"):
    datasets.train_batches(config, train, normalize.compute(train), 0, None)
