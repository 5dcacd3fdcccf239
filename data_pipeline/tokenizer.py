"""Ids of another prompt than the released one, from a tokenizer file.

  python -m data_pipeline.tokenizer FILE "follow the road"

Reads PaliGemma's SentencePiece .model or a tokenizer.json, which are not part
of this repository (licence), and needs no tokenizer library: both describe
byte-pair encoding. The result goes into the config as `prompt_ids`.
"""

import struct
import sys

from data_pipeline import errors, prompt, reading, schema

OFFICIAL_TEXT = "predict trajectory"
SPACE = "\u2581"  # stands for a space in the pieces
_NORMAL = 1  # the kind of SentencePiece piece that merges make


def prompt_ids(text, path=None):
  """Ids of a prompt: bos, its pieces, newline.

  Args:
    text: the words.
    path: tokenizer file; only the released prompt does without.

  Raises:
    ConfigError: another text without a file, or a file that is no tokenizer.
  """
  if path is None:
    if text == OFFICIAL_TEXT:
      return prompt.OFFICIAL_IDS
    raise errors.ConfigError(
        f"prompt {text!r} needs a tokenizer file: without one only "
        f"{OFFICIAL_TEXT!r} has known ids; name PaliGemma's tokenizer.model "
        "or tokenizer.json")
  ids, rank = _load(path)
  try:
    return (ids["<bos>"], *_encode(text, ids, rank), ids["\n"])
  except (KeyError, TypeError) as error:
    raise errors.ConfigError(
        f"{path} cannot spell the prompt {text!r}: it lacks {error}; name "
        "PaliGemma's tokenizer.model or tokenizer.json") from None


def _load(path):
  """({piece: id}, function of two neighbours: rank of their merge or None)."""
  try:
    with open(path, "rb") as file:
      content = file.read()
    found = (_of_json(reading.parse(content)) if content.lstrip()[:1] == b"{"
             else _of_model(content))
    if not {"<bos>", "\n"} <= found[0].keys():
      raise ValueError("it has no <bos> or no newline")
    if not all(map(schema.count, found[0].values())):
      raise ValueError("an id is no whole number")
    return found
  except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError,
          struct.error) as error:
    raise errors.ConfigError(
        f"{path} is no tokenizer of PaliGemma ({error}); name its "
        "tokenizer.model or tokenizer.json") from error


def _of_json(content):
  ids = dict(content["model"]["vocab"])
  ids |= {token["content"]: token["id"] for token in content["added_tokens"]}
  pairs = {tuple(m.split(" ") if isinstance(m, str) else m): i
           for i, m in enumerate(content["model"]["merges"])}
  return ids, lambda a, b: pairs.get((a, b))


def _of_model(content):
  ids, scores = {}, {}
  for number, value in _fields(content):
    if number == 1:
      piece = dict(_fields(value))
      text = piece[1].decode()
      ids[text] = len(ids)
      if piece.get(3, _NORMAL) == _NORMAL:
        scores[text] = struct.unpack("<f", piece[2])[0]
  # The likelier piece is merged first.
  return ids, lambda a, b: -scores[a + b] if a + b in scores else None


def _fields(data):
  """Yields (number, value) of a protocol buffer's fields."""
  at = 0

  def varint():
    nonlocal at
    value = shift = 0
    while True:
      byte = data[at]
      at += 1
      value |= (byte & 127) << shift
      shift += 7
      if byte < 128:
        return value

  while at < len(data):
    number, kind = divmod(varint(), 8)
    if kind == 0:
      yield number, varint()
      continue
    size = {1: lambda: 8, 2: varint, 5: lambda: 4}[kind]()
    if at + size > len(data):
      raise ValueError("it ends too early")
    at += size
    yield number, data[at - size:at]


def _encode(text, ids, rank):
  """Merges neighbours, the best pair first, until none can be merged."""
  pieces = list(text.replace(" ", SPACE))
  while True:
    ranks = [(r, i) for i in range(len(pieces) - 1)
             if (r := rank(pieces[i], pieces[i + 1])) is not None]
    if not ranks:
      break
    _, i = min(ranks)
    pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
  for piece in pieces:
    if piece in ids:
      yield ids[piece]
    else:  # an unknown sign is spelled in bytes
      yield from (ids[f"<0x{byte:02X}>"] for byte in piece.encode())


if __name__ == "__main__":
  try:
    ids = ",".join(map(str, prompt_ids(sys.argv[2], sys.argv[1])))
    print(f"--config.prompt_ids=[{ids}]")
  except IndexError:
    sys.exit(__doc__)
  except errors.UserError as error:
    sys.exit(str(error))
