"""Arrays of an Orbax checkpoint, read from their TensorStore one at a time."""

import os

import numpy as np

from data_pipeline import errors
from drivemoe_jax.weights import tensors


def is_store(path):
  """Whether a folder holds Orbax's arrays."""
  return any(os.path.isfile(os.path.join(path, name))
             for name in ("manifest.ocdbt", "_METADATA"))


def tensors_of(path):
  """{"a/b/c": tensors.Tensor} of all arrays in a folder.

  An array lies in chunks as it was sharded when saved, so it is read whole;
  the last one is kept until another is asked for.

  Raises:
    CheckpointError: no arrays, or arrays that cannot be opened.
  """
  import tensorstore as ts  # slow to load, and most formats do without

  place = os.path.abspath(path)
  kvstore = {"driver": "file", "path": place + "/"}
  if os.path.isfile(os.path.join(place, "manifest.ocdbt")):
    kvstore = {"driver": "ocdbt", "base": kvstore}
  kept = {}

  def tensor(name, driver):
    array = ts.open({"driver": driver, "kvstore": kvstore | {
        "path": kvstore.get("path", "") + name + "/"}}, open=True,
        read=True).result()

    def rows(start=0, stop=None):
      if name not in kept:
        kept.clear()
        kept[name] = array.read().result()
      return kept[name][start:stop] if array.shape else kept[name]
    return tensors.Tensor(tuple(array.shape), np.dtype(array.dtype.numpy_dtype),
                          rows, (place, name))

  try:
    keys = [key.decode() for key in
            ts.KvStore.open(kvstore).result().list().result()]
    found = {}
    for key in keys:
      for ending, driver in (("/.zarray", "zarr"), ("/zarr.json", "zarr3")):
        if key.endswith(ending):
          name = key.removesuffix(ending)
          found[name.replace(".", "/")] = tensor(name, driver)
  except (ValueError, OSError) as error:
    raise errors.CheckpointError(
        f"{path} holds no readable Orbax arrays "
        f"({str(error).splitlines()[0][:200]}); copy it again") from error
  if not found:
    raise errors.CheckpointError(
        f"{path} holds no Orbax arrays; name the folder of parameters")
  return found
