"""Readers of weights and of what lies beside them."""

import json
import pickle

import numpy as np

from drivemoe_jax import golden
from drivemoe_jax.weights import read, sources, write
from tests.fuzz import edits
from tests.fuzz.trial import Reader
from tests.weights import trees

SIZES = trees.ODD | trees.PI0 | dict(layers=2, vision_layers=1, vocab_size=6)
JSON, TENSORS = edits.Json(), edits.Safetensors()
NPZ = edits.Zip(npy=edits.Npy())
# Opcodes that ask for memory, for names or for other objects.
HOSTILE = [
    pickle.GLOBAL + b"os\nsystem\n" + pickle.BINUNICODE + b"\4\0\0\0true"
    + pickle.TUPLE1 + pickle.REDUCE,
    pickle.GLOBAL + b"builtins\neval\n", pickle.GLOBAL + b"torch\nSize\n",
    pickle.INST + b"os\ngetcwd\n", b"cposix\ngetcwd\n)R", b"(i__main__\nx\n",
    pickle.LONG_BINPUT + b"\xff\xff\xff\xff", b"p99999999999\n",
    pickle.BINBYTES8 + (1 << 40).to_bytes(8, "little"),
    pickle.BINUNICODE8 + (1 << 31).to_bytes(8, "little"),
    pickle.BYTEARRAY8 + (1 << 33).to_bytes(8, "little"),
    pickle.LONG4 + (1 << 30).to_bytes(4, "little"), pickle.EXT1 + b"\1",
    pickle.FRAME + (1 << 40).to_bytes(8, "little"), pickle.EMPTY_TUPLE
    + (pickle.DUP + pickle.TUPLE2) * 60, pickle.EMPTY_LIST * 2000
    + pickle.APPEND * 1999, pickle.EMPTY_DICT + pickle.BUILD, pickle.NONE,
    pickle.POP, pickle.DUP, pickle.MARK, pickle.STOP, pickle.TUPLE,
    pickle.BINPERSID, pickle.REDUCE, pickle.SETITEMS, pickle.BUILD,
    pickle.MEMOIZE, pickle.STACK_GLOBAL, pickle.NEWOBJ, pickle.OBJ,
    pickle.PERSID + b"storage\n", pickle.GET + b"0\n", pickle.EMPTY_SET,
    pickle.FLOAT + b"nan\n", pickle.INT + b"9" * 5000 + b"\n",
    pickle.STRING + b"'x'\n", pickle.LONG + b"9" * 5000 + b"L\n",
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.FROZENSET]


class Pickle(edits.Bytes):
  """Bytes of a pickle, and hostile opcodes anywhere in it."""

  kinds = ("opcodes", "bytes")

  def apply(self, kind, ops, data):
    if kind == "bytes":
      return edits.edit_bytes(data, ops)
    for a, b, c in ops:
      at = (a if c % 2 else len(data) - a % 40) % (len(data) + 1)
      data = data[:at] + HOSTILE[b % len(HOSTILE)] + data[at:]
    return data


PT = edits.Zip(**{"data.pkl": Pickle()})


def _official(name):
  def make(folder):
    write.write(str(folder / name), trees.random_weights(trees.shapes(SIZES)))
  return make


def _npz(folder):
  path = write.write(str(folder / "x.npz"), trees.paligemma(SIZES),
                     column="bv")
  with np.load(path) as found:
    np.savez_compressed(folder / "packed.npz", **found)


def _hugging_face(folder):
  path = write.write(str(folder / "hf"), trees.paligemma(SIZES), column="hf")
  shards = sorted(p.name for p in (folder / "hf").glob("*.safetensors"))
  index = folder / "hf" / "model.safetensors.index.json"
  if not index.is_file():
    (folder / "hf" / shards[0]).rename(folder / "hf" / "model.safetensors")
    index.write_text(json.dumps({
        "metadata": {}, "weight_map": {"a": "model.safetensors"}}))
  assert path


def _load(*names):
  """Reads every tensor, by the file's own sizes and by a model's."""
  def load(folder):
    for name in names:
      file, _ = sources.open_source(str(folder / name))
      sources.check_numbers(file, 1, 3, 2)
      found = read.scan(file)
      for leaf in (*found.params.values(), *found.carried.values()):
        np.asarray(leaf)
  return load


def _fits(name, sizes):
  like = []

  def load(folder):
    if not like:
      like.append(trees.shapes(sizes))
    opened = sources.open_checked(str(folder / name), stage=1, horizon=3,
                                  history=2)
    sources.load(opened, like[0], None)
  return load


def _golden(folder):
  (folder / "config.json").write_text(json.dumps({"dims": {}, "kind": "x"}))
  np.savez(folder / "inputs.npz", a=np.zeros(3), b=np.ones((2, 2), np.int32))


def _read_golden(folder):
  golden.load_config(str(folder))
  golden.load_arrays(str(folder), "inputs")


READERS = (
    Reader("npz weights", _npz, {"x.npz": NPZ, "packed.npz": NPZ},
           _load("x.npz", "packed.npz"), share=1, quick=8),
    Reader("safetensors", _official("x.safetensors"),
           {"x.safetensors": TENSORS}, _load("x.safetensors"), share=4,
           quick=13),
    Reader("torch file", _official("x.pt"), {"x.pt": PT}, _load("x.pt"),
           share=3, quick=16),
    Reader("torch file for a model", _official("x.pt"), {"x.pt": PT},
           _fits("x.pt", SIZES), share=0.4, quick=1),
    Reader("Hugging Face folder", _hugging_face, {
        "hf/config.json": JSON, "hf/model.safetensors.index.json": JSON,
        "hf/model.safetensors": TENSORS}, _load("hf"), share=3, quick=13),
    Reader("golden case", _golden, {"config.json": JSON, "inputs.npz": NPZ},
           _read_golden, share=3, quick=6),
)
