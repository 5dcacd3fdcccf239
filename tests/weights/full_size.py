"""Measures reading and writing at the released sizes, on random weights.

  python -m tests.weights.full_size FOLDER

Writes a synthetic DriveMoE (.pt) and PaliGemma (Hugging Face) in bfloat16 into
FOLDER, reads each onto eight simulated devices and writes it back. Needs 25 GB
of disk and 13 GB of memory. Prints one JSON line for each step: seconds, those
of the processor, MB/s, and the peak of host memory beyond the arrays that stay.
"""

import json
import os
import shutil
import sys
import threading
import time
import zlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import ml_dtypes
import numpy as np
import psutil

from drivemoe_jax import sharding
from drivemoe_jax.weights import blocks, infer, read, regions, write
from tests.weights import trees

BF16 = np.dtype(ml_dtypes.bfloat16)


class Random:
  """A leaf of random bits that exist only while they are looked at."""

  def __init__(self, path, shape):
    self.path, self.shape, self.dtype = path, shape, BF16

  def __getitem__(self, at):
    region = regions.of_index(at, self.shape)
    rng = np.random.default_rng(zlib.crc32(repr((self.path, at)).encode()))
    shape = regions.shape(region)
    bits = rng.integers(0, 1 << 64, -(-int(np.prod(shape)) // 4), np.uint64)
    block = bits.view(np.uint16)[:np.prod(shape)].reshape(shape).view(BF16)
    return regions.drop(block, at)


class Watch:
  """Seconds of a block, and the peak of memory beyond its start."""

  def __init__(self):
    self._process, self._stop = psutil.Process(), threading.Event()

  def _look(self):
    while not self._stop.wait(0.02):
      self.peak = max(self.peak, self._process.memory_info().rss)

  def __enter__(self):
    self.start = self.peak = self._process.memory_info().rss
    self._thread = threading.Thread(target=self._look)
    self._thread.start()
    self._began, self._cpu = time.monotonic(), time.process_time()
    return self

  def __exit__(self, *_):
    self.seconds = time.monotonic() - self._began
    self.cpu = time.process_time() - self._cpu
    self._stop.set()
    self._thread.join()


def report(what, watch, size, kept=0):
  row = {"what": what, "seconds": round(watch.seconds, 1), "bytes": size,
         "cpu_seconds": round(watch.cpu, 1),
         "mb_per_s": round(size / watch.seconds / 1e6),
         "extra_gb": round((watch.peak - watch.start - kept) / 1e9, 2)}
  print(json.dumps(row), flush=True)
  return row


def measure(folder):
  """Runs everything; returns the rows."""
  rows, shapes = [], trees.shapes(trees.FULL)
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, BF16), shapes)
  mesh = sharding.make_mesh({"data": 1, "fsdp": 8, "expert": 1})
  random = lambda tree: {path: Random(path, tuple(x.shape))
                         for path, x in blocks.flatten(tree).items()}
  alphas = {"camera": np.ones(5), "skill": np.ones(7)}
  heads = infer.heads(blocks.shapes_of(like))
  alone = {part: like[part] for part in ("img", "llm")}
  norm = {read.CARRIED: np.zeros(2048, BF16)}
  for name, column, weights, tree in (
      ("drivemoe.pt", "official", read.Weights(
          random(like), alphas, {"stage": 1}, {}, heads), like),
      ("paligemma", "hf", read.Weights(
          random(alone), {}, {}, norm, heads), alone)):
    source = os.path.join(folder, name)
    size = sum(x.size * 2 for x in jax.tree.leaves(tree))
    if not os.path.exists(source):
      write.write(source, weights, column=column, dtype="bfloat16")
    with Watch() as watch:
      loaded = read.load(source, tree, sharding.infer(tree, mesh))
    rows.append(report(f"read {name} onto 8 devices", watch, size, size))
    again = os.path.join(folder, "again-" + name)
    with Watch() as watch:
      write.write(again, loaded, column=column, dtype="bfloat16")
    rows.append(report(f"write {name}, read it back and compare", watch, size))
    same = _same_files(source, again)
    print(json.dumps({"what": f"{name} came back", "same_bytes": same}))
    rows.append({"what": f"{name} came back", "same_bytes": same})
    for path in (source, again):
      shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    del loaded
  return rows


def _same_files(a, b):
  names = sorted(os.listdir(a)) if os.path.isdir(a) else [""]
  return all(_same_bytes(os.path.join(a, n).rstrip("/"),
                         os.path.join(b, n).rstrip("/")) for n in names)


def _same_bytes(a, b):
  with open(a, "rb") as x, open(b, "rb") as y:
    while True:
      p, q = x.read(1 << 24), y.read(1 << 24)
      if p != q:
        return False
      if not p:
        return True


if __name__ == "__main__":
  measure(sys.argv[1])
