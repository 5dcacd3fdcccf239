"""The TensorFlow Datasets builder: staged routes -> ArrayRecord shards.

A shard holds whole routes in order, so it can be written by any process. TFDS
writes into an `.incomplete` folder and renames it: no shard looks whole too
early. Read by tfds.builder_from_directory(...).as_data_source(split); there is
no as_dataset for ArrayRecord. With Beam flags the shards are written by a
cluster that sees the staged files under the same path. Either way TFDS holds
a whole shard in memory while it writes it.
"""

import contextlib
import dataclasses
import io
import os

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import writer as tfds_writer

from data_pipeline import records, stage, tf_cpu


@dataclasses.dataclass(frozen=True)
class Shard:
  """The content of one shard: staged routes, in order."""

  folder: str                  # of the staged files
  routes: tuple                # names

  def __call__(self):
    """Yields (key, example) as TFDS wants them."""
    for name in self.routes:
      with stage.RouteFile(self.folder, name) as file:
        for t, record in enumerate(file.records()):
          example = {key: records.number(record, key)
                     for key in records.FIELDS}
          example |= {key: bytes(record[key]) for key in records.IMAGES}
          yield f"{name}/{t}", example | {records.ROUTE: name}


class _CanonicalWriter(tfds_writer.ExampleWriter):
  """Writes records in one encoding.

  TFDS' own has its keys in the order of a hash table, which differs from
  process to process.
  """

  def write(self, path, examples):
    try:
      writer = array_record_module.ArrayRecordWriter(
          os.fspath(path), stage.WRITER_OPTIONS)
      for _, data in examples:
        writer.write(records.encode(records.decode(data)))
      writer.close()
    except RuntimeError as error:
      raise stage.storage_error(path, error) from None


class DrivemoeFrames(tfds.core.ShardBasedBuilder):
  """One record per frame; see records.py for what it holds."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Six images, numbers and labels of a frame."}

  def __init__(self, *, shards, size, encoding, **kwargs):
    """Args: {split: [Shard, ...]}, image side, one of records.ENCODINGS."""
    self._shards, self._size, self._encoding = shards, size, encoding
    super().__init__(file_format="array_record", **kwargs)

  def _info(self):
    image = tfds.features.Image(
        shape=(self._size, self._size, 3), encoding_format=self._encoding)
    features = {key: image for key in records.IMAGES}
    # As bytes: a tf.train.Example knows no float64.
    features |= {
        key: tfds.features.Tensor(shape=field.shape, encoding="bytes",
                                  dtype=np.dtype(field.dtype),
                                  doc=field.meaning)
        for key, field in records.FIELDS.items()}
    features[records.ROUTE] = tfds.features.Text()
    return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(features),
        description="Driving frames with camera and skill labels, prepared "
        "by data_pipeline.prepare.", disable_shuffling=True)

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager  # nothing to download
    return self._shards

  def _example_writer(self):
    return _CanonicalWriter(file_format=self.info.file_format)


def build(out, shards, *, size, encoding, beam=None):
  """Writes the shards under `out`; returns {split: [path, ...]}.

  Args:
    out: TFDS data_dir.
    shards: {split: [Shard, ...]}.
    size, encoding: of the staged images.
    beam: Apache Beam flags such as ["--runner=DirectRunner"]; without them
      this process writes.
  """
  tf_cpu.tensorflow()  # before TFDS loads it with all devices
  builder = DrivemoeFrames(
      shards=shards, size=size, encoding=encoding, data_dir=out)
  config = tfds.download.DownloadConfig()
  if beam:
    from apache_beam.options import pipeline_options
    options = pipeline_options.PipelineOptions(beam)
    config = dataclasses.replace(
        config, beam_options=options,
        beam_runner=options.get_all_options()["runner"] or "DirectRunner")
  with contextlib.redirect_stdout(io.StringIO()):  # TFDS chats
    builder.download_and_prepare(
        download_dir=os.path.join(out, "stage"), download_config=config)
  return {split: [os.fspath(path) for path in info.filepaths]
          for split, info in builder.info.splits.items()}
