"""Reads weights of any format into our tree, leaf by leaf.

Strict: a missing, extra or reshaped tensor is an error that lists it, unless
it was allowed; what was loaded, starts fresh or was skipped is told in a table.
`scan` leaves the numbers in the file and reads each block when it is indexed,
`load` places them on the mesh. Each byte is read once, and beside the arrays
that stay the host holds one leaf at most.
"""

import dataclasses
import re

import numpy as np

from data_pipeline import errors
from drivemoe_jax.weights import blocks, files, infer, names, regions, tensors
from drivemoe_jax.weights import leaf as leaf_lib

CARRIED = "llm/final_norm/scale"  # kept beside params: only PaliGemma uses it
LISTED = 20


@dataclasses.dataclass(frozen=True)
class Weights:
  """A model's weights and what is said beside them.

  Attributes:
    params: our tree, nested or as {path: leaf}; leaves are arrays or Leafs.
    alphas: focal weights, {"camera": [5], "skill": [7]}; {} where unknown.
    meta: ints under files.NUMBERS, as far as known.
    carried: {path: leaf} of weights that are kept but no parameters.
    heads: {"vision", "text", "kv"}, None where the source does not tell; then
      head axes are 1, and big_vision's layout cannot be made.
    fresh: paths of `like` that the source does not hold.
    skipped: keys of the source that were left out.
    source: what it was, for messages.
  """

  params: dict
  alphas: dict
  meta: dict
  carried: dict = dataclasses.field(default_factory=dict)
  heads: dict | None = None
  fresh: tuple = ()
  skipped: tuple = ()
  source: str = ""


@dataclasses.dataclass(frozen=True)
class Allowed:
  """What may differ between a file and the model, as regexes of whole names.

  Attributes:
    missing: paths of ours that may start fresh.
    extra: keys of the file that may be left out.
    only: path prefix; nothing else is loaded ("img").
  """

  missing: str = ""
  extra: str = ""
  only: str = ""

  def __post_init__(self):
    for pattern in (self.missing, self.extra):
      try:
        re.compile(pattern)
      except re.error as error:
        raise errors.ConfigError(
            f"{pattern!r} is no regex ({error}); write .*bias, not *bias"
            ) from None


STRICT = Allowed()


def load(source, like, shardings=None, *, tie=None, allowed=STRICT):
  """Loads weights.

  Args:
    source: path or files.File.
    like: tree of arrays or jax.ShapeDtypeStruct: shapes and dtypes wanted.
    shardings: tree like `like` of where the leaves go; None for host memory.
    tie: "action" or "proprio": whose copy to take where the streams' copies of
      a shared weight differ; None refuses such a file.
    allowed: what may be missing or left over.

  Returns:
    Weights; params like `like`, but without what is `fresh`.

  Raises:
    CheckpointError: no weight file, or it does not fit `like`.
  """
  lazy = scan(source, like, tie=tie, allowed=allowed)
  where = blocks.flatten(shardings) if shardings is not None else {}
  place = lambda path, leaf: (
      leaf_lib.place(leaf, where[path]) if where else np.asarray(leaf))
  params = {path: place(path, leaf) for path, leaf in lazy.params.items()}
  carried = {path: np.asarray(leaf) for path, leaf in lazy.carried.items()}
  return dataclasses.replace(
      lazy, params=blocks.unflatten(params), carried=carried)


def scan(source, like=None, *, tie=None, heads=None, allowed=STRICT):
  """Like `load`, with Leafs; without `like` the tree is the file's own.

  Args:
    heads: {"vision", "text", "kv"} for a file that does not tell, if known.
  """
  file = files.open_file(source) if isinstance(source, str) else source
  carried = {}
  if like is None:
    shapes, heads = _understood(file, _own_shapes, file, heads)
    dtypes = {}
    if CARRIED in shapes:
      carried = {CARRIED: shapes.pop(CARRIED)}
  else:
    shapes = blocks.shapes_of(like)
    dtypes = {p: leaf.dtype for p, leaf in blocks.flatten(like).items()}
    heads = infer.heads(shapes)
    _check_heads(file, heads)
    if names.TABLE in shapes and _holds_final_norm(file):
      carried = {CARRIED: (shapes[names.TABLE][1],)}
  inside = {path: shape for path, shape in shapes.items()
            if (path + "/").startswith(allowed.only)} | (
                carried if not allowed.only else {})
  entries = _inside(_understood(
      file, names.entries, shapes | carried, file.column), inside)
  alphas = names.alphas(inside) if file.column == "official" else {}
  fresh, skipped = _fit(file, inside, entries, alphas, allowed)
  leaves = _leaves(file, inside, entries, set(fresh), dtypes, tie)
  fresh += [path for path in shapes if path not in inside]
  return Weights(
      {path: leaf for path, leaf in leaves.items() if path != CARRIED},
      {name: np.asarray(file.tensors[key].rows(), np.float32)
       for name, (key, _) in alphas.items() if key in file.tensors},
      file.meta, {p: leaf for p, leaf in leaves.items() if p == CARRIED}, heads,
      tuple(fresh), tuple(skipped), file.path)


def _understood(file, function, *args):
  """function(*args), which looks at a file's names and shapes."""
  try:
    return function(*args)
  except errors.UserError:
    raise
  except (ValueError, LookupError, TypeError, ArithmeticError) as error:
    raise errors.CheckpointError(
        f"{file.path}: its tensors make no model of any size ({error}); name "
        "a whole file") from error


def _inside(entries, paths):
  """Entries without the pieces of other paths."""
  kept = [dataclasses.replace(e, pieces=tuple(
      p for p in e.pieces if p.path in paths)) for e in entries]
  return [e for e in kept if e.pieces]


def _holds_final_norm(file):
  name, = (n for n in names.NAMES if n.ours == CARRIED)
  return getattr(name, file.column) is not None


def _own_shapes(file, heads):
  """(tree, heads) of a whole file."""
  if file.tree:
    return dict(file.tree), file.heads
  shapes = infer.shapes(file.shapes, file.column, file.path)
  if file.column == "bv":
    return shapes, infer.heads(shapes)
  heads = heads or file.heads or infer.published_heads(shapes)
  return (infer.with_heads(shapes, heads) if heads else shapes), heads


def _check_heads(file, ours):
  """A torch file's shapes hide its heads; its config may tell them."""
  told = file.heads or {}
  for name, count in ours.items():
    if told.get(name, count) != count:
      raise errors.CheckpointError(
          f"{file.path} has {told[name]} {name} attention heads, the model "
          f"{count}; configure the model as the file's")


def _fit(file, shapes, entries, alphas, allowed):
  """([fresh paths], [skipped keys]); raises for what is not allowed."""
  found = file.shapes
  wanted = {key: e.shape for e in entries for key in (e.key, *e.aliases)}
  wanted |= dict(alphas.values())
  absent = wanted.keys() - found.keys()
  held = {p.path for e in entries for p in e.pieces if e.key in found}
  fresh = [path for path in shapes
           if path not in held and re.fullmatch(allowed.missing, path)]
  excused = set()
  for e in entries:
    if all(p.path in fresh for p in e.pieces):
      excused |= {e.key, *e.aliases}
  excused |= {key for key, _ in alphas.values()
              if re.fullmatch(allowed.missing, key)}
  missing = absent - excused
  named = {p.path for e in entries for p in e.pieces}
  missing |= {path for path in shapes.keys() - named - set(fresh)}
  extra = found.keys() - wanted.keys()
  skipped = [key for key in extra
             if allowed.only or re.fullmatch(allowed.extra, key)]
  _refuse(file.path, {
      "missing": missing,
      "extra": extra - set(skipped),
      "reshaped": [
          f"{key} {tuple(found[key])} in the file, {wanted[key]} in the model"
          for key in wanted.keys() & found.keys()
          if tuple(found[key]) != tuple(wanted[key])]})
  return fresh, sorted(skipped, key=blocks.natural)


def listing(keys):
  """The first of a sequence of names in words, and how many more there are."""
  more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
  return ", ".join(keys[:LISTED]) + more


def _refuse(path, problems):
  told = []
  for kind, keys in problems.items():
    if keys := sorted(keys, key=blocks.natural):
      told.append(f"{len(keys)} {kind}: {listing(keys)}")
  if told:
    raise errors.CheckpointError(
        f"{path} does not fit the model; {'; '.join(told)}; name a file of "
        "this model, configure the model as the file's, or allow by regex "
        "what may be missing or extra")


def _leaves(file, shapes, entries, fresh, dtypes, tie):
  """{path: Leaf} of all that the file holds."""
  kept, leaves = {}, {}
  for entry in entries:
    for piece in entry.pieces:
      if piece.path in fresh:
        continue
      if piece.path not in leaves:
        dtype = dtypes.get(piece.path, file.tensors[entry.key].dtype)
        leaves[piece.path] = leaf_lib.Leaf(shapes[piece.path], dtype, kept)
      leaf = leaves[piece.path]
      leaf.parts.append((regions.of_index(piece.at, leaf.shape),
                         _reader(file, entry, piece, leaf.dtype, tie)))
  table = leaves.get(names.TABLE)
  if table is not None:
    leaf_lib.pad(table)
  return {path: leaves[path] for path in shapes if path in leaves}


def _reader(file, entry, piece, dtype, tie):
  def read():
    rows = _tied(file, entry, *piece.rows, tie)  # pyright: ignore[reportCallIssue]
    block = piece.transform.from_torch(rows, piece.shape)
    shape = (1,) * len(piece.index) + piece.shape
    return block.astype(dtype, copy=False).reshape(shape)
  return read


def _tied(file, entry, start, stop, tie):
  """Rows of a tensor; of two copies the one that `tie` names, else both."""
  if not entry.aliases or tie:
    keys = [k for k in (entry.key, *entry.aliases) if f".{tie}." in k]
    return file.tensors[keys[0] if keys else entry.key].rows(start, stop)
  tensor = file.tensors[entry.key]
  rows = tensor.rows(start, stop)
  for alias in entry.aliases:
    other = file.tensors[alias]
    if other.place != tensor.place and not tensors.same(
        rows, other.rows(start, stop)):
      raise errors.CheckpointError(
          f"{file.path}: {entry.key} and {alias} differ, yet the streams share "
          "this weight; choose one with --tie action or --tie proprio")
  return rows
