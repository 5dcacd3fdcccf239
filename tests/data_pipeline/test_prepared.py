"""Reading a prepared folder: damage is found where it is, misfits refused."""

import json

import numpy as np
import pytest

from data_pipeline import (
    errors,
    loader,
    normalize,
    prepared,
    records,
    spec,
)
from tests.data_pipeline import fixtures
from tests.data_pipeline.prepared_folders import (
    NAMES,
    SIZE,
    TEXT,
    contents,
)


def copied(whole, tmp_path):
  for name, content in contents(whole).items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return str(tmp_path)


def read_all(root):
  data = prepared.Prepared(root).collect(NAMES, horizon=5)
  return list(loader.eval_batches(
      data, normalize.compute(data), batch_size=4, **TEXT))


def test_a_flipped_byte_is_found_where_it_is(whole, tmp_path):
  root = copied(whole, tmp_path)
  path = next(tmp_path.rglob("*train*00000-of-00002"))
  data = bytearray(path.read_bytes())
  # Frame 2 of route 1 is record 11, somewhere in the second half.
  image = records.encode_image(fixtures_pixels(1, 2), "png")
  data[data.index(image) + len(image) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(errors.DataError, match=(
      f"00000-of-00002 record 11 .{NAMES[1]} frame 2. is damaged.*"
      "verify_data")):
    read_all(root)
  data = prepared.Prepared(root).collect(NAMES, horizon=5)
  batches = list(loader.eval_batches(
      data, normalize.compute(data), batch_size=4, on_bad_record="skip",
      **TEXT))
  valid = np.concatenate([b["valid"] for b in batches])[:len(data)]
  # Frame 2 is lost, and with it the past of frame 3.
  assert [(data.route_index[i], data.frame[i])
          for i in np.flatnonzero(~valid)] == [(1, 2), (1, 3)]


def fixtures_pixels(route, frame):
  from data_pipeline import images
  return images.decode(fixtures.jpeg(0, frame, salt=NAMES[route]), SIZE)


@pytest.mark.parametrize("spoil, match", [
    (lambda p: p.write_bytes(p.read_bytes()[:70000]), "cut short"),
    (lambda p: p.write_bytes(b""), "cut short"),
    (lambda p: p.unlink(), "cannot be opened|cut short")])
def test_a_shard_cut_short_is_found(whole, tmp_path, spoil, match):
  root = copied(whole, tmp_path)
  spoil(next(tmp_path.rglob("*train*00001-of-00002")))
  with pytest.raises(errors.DataError, match=f"00001-of-00002.*({match})"):
    read_all(root)


def test_a_manifest_of_another_version_is_refused(whole, tmp_path):
  root = copied(whole, tmp_path)
  path = tmp_path / prepared.MANIFEST
  manifest = json.loads(path.read_text())
  path.write_text(json.dumps(manifest | {"format": 2}))
  with pytest.raises(errors.DataError, match="format 2.*reads format 1"):
    read_all(root)
  path.write_text("{")
  with pytest.raises(errors.DataError, match="is no manifest"):
    read_all(root)
  path.unlink()
  assert not prepared.is_prepared(root)
  with pytest.raises(errors.DataError, match="start it again to finish"):
    prepared.Prepared(root)


def test_an_index_of_other_data_is_refused(whole, tmp_path):
  root = copied(whole, tmp_path)
  (tmp_path / prepared.INDEX).write_bytes(b"PK")
  with pytest.raises(errors.DataError, match="index.npz cannot be read"):
    prepared.Prepared(root)
  with open(tmp_path / prepared.INDEX, "wb") as file:
    np.savez(file, **{key: np.zeros(3) for key in records.FIELDS})
  with pytest.raises(errors.DataError, match="3 rows.*36 frames"):
    prepared.Prepared(root)


def test_a_run_must_fit_the_folder(whole):
  data = prepared.Prepared(str(whole))
  with pytest.raises(errors.ConfigError, match="'box'.*asks for 'zero'"):
    data.collect(NAMES, horizon=5, nan_heading="zero")
  cut = data.collect(NAMES, horizon=5)
  with pytest.raises(errors.ConfigError, match="side 12, the model takes 24"):
    loader.eval_batches(cut, normalize.compute(cut), batch_size=4,
                        **TEXT | {"image_size": 24})


def test_only_the_images_asked_for_are_decoded(whole, monkeypatch):
  from data_pipeline import frames, images
  data = prepared.Prepared(str(whole)).collect(NAMES, horizon=5)
  decode, count = images.decode, 0

  def counts(*args):
    nonlocal count
    count += 1
    return decode(*args)

  monkeypatch.setattr(images, "decode", counts)
  for budget, want in ((0.0, len(data) * 7 - len(NAMES)),  # frame 0 has no
                       (1.0, len(data) * 6)):              # other past
    store, count = frames.FrameStore(data, SIZE, budget), 0
    for index in range(len(data)):
      assert store.sample(index).shape == (len(spec.IMAGES), SIZE, SIZE, 3)
    assert count == want
