"""Breaks valid files: a recipe of small numbers says how, so that it shrinks.

A recipe is (kind, ops), `ops` a list of three numbers each. A codec knows how
to take a file apart, turn the ops into damage, and put it together again with
right checksums, so that the damage reaches the reader behind them.
"""

import gzip
import io
import json
import struct
import zipfile

from hypothesis import strategies as st

NUMBER = st.integers(0, 2**16 - 1)
OPS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=4)
MOST_NODES = 5000  # of a value that is still copied into itself
RAW = {"inf": "1e400", "big": "9" * 400, "huge": "9" * 6000,
       "deep": "[" * 100_000 + "]" * 100_000, "nest": '{"a":' * 400 + "0"
       + "}" * 400, "cut": '"', "comma": ",", "octal": "012", "plus": "+1"}
HOSTILE = [
    None, 0, "", [], {}, True, -1, 1.5, "x", "1", float("nan"), float("inf"),
    float("-inf"), 2**31, 2**63, -2**63 - 1, 10**25, 1e308, -1e-308, -0.0,
    "../outside", "../../outside/file", "/outside/file", "a\0b", "\ud800",
    "\u0663", "\u202e\n\x1b[31m", "x" * 5000, "{data.__class__}", "%s%n", "NaN",
    "(?P<", "*", ".", "..", "/", [[]], [0], [None, None], {"a": 0}, {"": {}},
    [1e308] * 3, [2**62] * 8, ["x"] * 70, False, *(
        f"@@{name}@@" for name in RAW)]
WORDS = [b"", b"\0", b"\xff\xfe", b"../", b"/", b"\n", b"\r\n", b"{", b"[",
         b'"', b"NaN", b"1e400", b"-1", b"\xed\xa0\x80", b"PK\3\4", b"\x80\2"]
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1,
           2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


class Again(str):
  """A key that a dict may hold twice."""

  __slots__ = ()
  __eq__ = object.__eq__
  __hash__ = object.__hash__


def edit_bytes(data, ops):
  """Flips, cuts, moves and overwrites bytes."""
  data = bytearray(data)
  for a, b, c in ops:
    size, kind = len(data), c % 9
    at = (a * 65536 + b) % (size + 1)
    if kind == 0 and size:
      data[at % size] ^= 1 << c % 8
    elif kind == 1:
      del data[at:]
    elif kind == 2:
      del data[at:at + 1 + c % 64]
    elif kind == 3:
      data[at:at] = data[b % (size + 1):][:1 + c % 64]
    elif kind == 4:
      data[at:at + c % 64] = bytes(c % 64)
    elif kind in (5, 6):  # a number, little- or big-endian
      width = (1, 2, 4, 8)[c // 9 % 4]
      number = NUMBERS[c // 36 % len(NUMBERS)] % (1 << 8 * width)
      data[at:at + width] = number.to_bytes(width, "little" if kind == 5
                                            else "big")
    elif kind == 7:
      data[at:at] = WORDS[c // 9 % len(WORDS)]
    elif size:
      data[at % size] = c // 9 % 256
  return bytes(data)


def edit_value(value, ops, hostile=HOSTILE):
  """Replaces, removes, doubles and swaps parts of nested dicts and lists."""
  for a, b, c in ops:
    nodes = list(_nodes(value))
    where, key = nodes[a % len(nodes)]
    bad = json_copy(hostile[b % len(hostile)])
    kind = c % 8
    if where is None:
      if kind == 0:
        value = bad
      continue
    if kind in (0, 1, 2):
      where[key] = bad
    elif kind == 3:
      del where[key]
    elif kind == 4 and isinstance(where, dict):
      where[Again(key)] = bad
    elif kind == 4:
      where.insert(key, bad)
    elif kind == 5 and isinstance(where, dict):
      where[bad if isinstance(bad, str) else str(bad)] = where.pop(key)
    elif kind == 5:
      where *= 1 + c % 3
    elif kind == 6:
      other, at = nodes[c // 8 % len(nodes)]
      bad = json_copy(value if other is None else other[at])
      where[key] = bad if len(nodes) < MOST_NODES else None
    else:
      where[key] = [where[key]]
  return value


def _nodes(value, where=None, key=None):
  yield where, key
  if isinstance(value, dict):
    for name in list(value):
      yield from _nodes(value[name], value, name)
  elif isinstance(value, list):
    for number, item in enumerate(value):
      yield from _nodes(item, value, number)


def json_copy(value):
  if isinstance(value, dict):
    return {key: json_copy(item) for key, item in value.items()}
  return [json_copy(x) for x in value] if isinstance(value, list) else value


def dumps(value):
  """JSON, with what Python does not write: see RAW."""
  text = json.dumps(value)
  for name, raw in RAW.items():
    text = text.replace(f'"@@{name}@@"', raw)
  return text.encode()


class Bytes:
  """Any file."""

  kinds = ("bytes",)

  def apply(self, kind, ops, data):
    return edit_bytes(data, ops)


class Json(Bytes):
  """A JSON file."""

  kinds = ("json", "json", "json", "bytes")

  def apply(self, kind, ops, data):
    if kind == "bytes":
      return edit_bytes(data, ops)
    return dumps(edit_value(json.loads(data), ops))


class JsonLines(Bytes):
  """One JSON value a line."""

  kinds = Json.kinds

  def apply(self, kind, ops, data):
    lines = data.splitlines(keepends=True)
    at = ops[0][1] % len(lines)
    lines[at] = Json().apply(kind, ops, lines[at])
    return b"".join(lines[:at]) + lines[at].rstrip(b"\n") + b"\n" + b"".join(
        lines[at + 1:])


class Gzip(Bytes):
  """Something in a gzip file."""

  def __init__(self, inner):
    self._inner = inner
    self.kinds = (*inner.kinds, "outer")

  def apply(self, kind, ops, data):
    if kind == "outer":
      return edit_bytes(data, ops)
    return gzip.compress(
        self._inner.apply(kind, ops, gzip.decompress(data)), 1, mtime=0)


class Npy(Bytes):
  """One NumPy array: its header's fields, or bytes."""

  kinds = ("header", "header", "bytes")
  FIELDS = {
      "descr": ["|O", "<f8", "<i4", "|V2", "<U9", "<M8[ns]", "|S0", "<c16",
                [("a", "<f8")], [("a", "|O")], ("<f4", (2**40,)), "", "|b1",
                "<f2", ">f8", None, 5, "|V1073741824", "x" * 3000],
      "fortran_order": [True, 1, None, "False"],
      "shape": [(), (0,), (1,), (2**31,), (2**40,), (2**62, 4), (-1,), (3, -2),
                (2**27,), (1,) * 40, [3], None, 5, (2.0,), ("a",), (10**30,),
                (0, 2**62), (2**32, 2**32)]}

  def apply(self, kind, ops, data):
    if kind == "bytes" or data[:6] != b"\x93NUMPY":
      return edit_bytes(data, ops)
    size = struct.unpack("<H", data[8:10])[0]
    fields = eval(data[10:10 + size], {"__builtins__": {}})  # our own header
    for a, b, c in ops:
      name = list(self.FIELDS)[a % len(self.FIELDS)]
      if c % 8:
        fields[name] = self.FIELDS[name][b % len(self.FIELDS[name])]
      else:
        fields.pop(name, None)
    text = repr(fields).encode() + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text + data[10 + size:]


class Zip(Bytes):
  """Members of a zip file, by the codec of the first name that ends so."""

  kinds = ("member", "member", "member", "zip", "bytes")
  NAMES = ["../outside", "/outside/file", "", "a\0b", "data.pkl", "x.npy",
           "archive/data/0", "made.npy", "\u0663/x"]

  def __init__(self, **codecs):
    self._codecs = codecs

  def apply(self, kind, ops, data):
    if kind == "bytes":
      return edit_bytes(data, ops)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      members = [(m.filename, m.compress_type, archive.read(m))
                 for m in archive.infolist()]
    (a, b, c), rest = ops[0], ops[1:] or ops
    known = [i for i, (name, *_) in enumerate(members)
             if name.endswith(tuple(self._codecs))]
    at = known[a % len(known)] if kind == "member" and known and c % 4 else (
        a % len(members))
    name, how, content = members[at]
    if kind == "member":
      codec = next((codec for ending, codec in self._codecs.items()
                    if name.endswith(ending)), Bytes())
      content = codec.apply(codec.kinds[b % len(codec.kinds)], rest, content)
      members[at] = name, how, content
    elif c % 4 == 0:
      del members[at]
    elif c % 4 == 1:
      members[at] = self.NAMES[b % len(self.NAMES)], how, content
    elif c % 4 == 2:
      members.append(members[b % len(members)])
    else:
      members[at] = name, (0, 8, 12, 14)[b % 4], content
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
      for name, how, content in members:
        archive.writestr(zipfile.ZipInfo(name), content, how)
    return out.getvalue()


class Safetensors(Bytes):
  """The header of a safetensors file, or its bytes."""

  kinds = ("header", "header", "size", "bytes")

  def apply(self, kind, ops, data):
    size = struct.unpack("<Q", data[:8])[0]
    if kind == "bytes":
      return edit_bytes(data, ops)
    if kind == "size":
      return struct.pack("<Q", NUMBERS[ops[0][0] % len(NUMBERS)]) + data[8:]
    text = dumps(edit_value(json.loads(data[8:8 + size]), ops))
    return struct.pack("<Q", len(text)) + text + data[8 + size:]


WORDS_OF_FILES = ["empty", "missing", "folder", "dangling"]


def damage(codec):
  """Strategy of what may happen to one file: (kind, ops or bytes)."""
  return st.one_of(
      st.tuples(st.sampled_from(codec.kinds), OPS),
      st.tuples(st.sampled_from(codec.kinds), OPS),
      st.tuples(st.just("raw"), st.binary(max_size=80)),
      st.tuples(st.just("start"), st.binary(max_size=40)),
      st.tuples(st.sampled_from(WORDS_OF_FILES), st.none()))


def drawn(codec, rng):
  """The same by a random.Random: a hundred times as fast, but cannot shrink."""
  chance = rng.random()
  if chance < 0.75:
    number = lambda: rng.getrandbits(16)
    return rng.choice(codec.kinds), [
        (number(), number(), number()) for _ in range(rng.randint(1, 4))]
  if chance < 0.95:
    return rng.choice(["raw", "start"]), rng.randbytes(rng.randint(0, 60))
  return rng.choice(WORDS_OF_FILES), None


def damaged(codec, data, recipe):
  """The file's bytes by a recipe; a word where there is no file any more."""
  kind, what = recipe
  if kind == "raw":
    return what
  if kind == "start":  # right at first
    return data[:max(16, len(data) // 2)] + what
  if what is None:
    return b"" if kind == "empty" else kind
  try:
    return codec.apply(kind, what, data)
  except (ValueError, RecursionError, UnicodeError, zipfile.BadZipFile,
          NotImplementedError, OverflowError):
    return edit_bytes(data, what)  # what Python cannot write
