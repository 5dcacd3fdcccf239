"""Prompt ids from tokenizer files, made up here in both formats."""

import json
import os
import struct

import pytest

from data_pipeline import errors, prompt, tokenizer

PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "\n", "▁", "a", "b", "r", "o",
          "d", "ro", "ad", "road", "▁road", "▁a", "ab", "<0xC3>", "<0xA9>"]
MERGES = ["r o", "a d", "ro ad", "▁ road", "▁ a", "a b"]


def model_file(path):
  """A SentencePiece model: pieces in the order of their merges score higher."""
  merged = ["".join(m.split(" ")) for m in MERGES]
  data = b""
  for piece in PIECES:
    text = piece.encode()
    score = -float(merged.index(piece)) if piece in merged else -1000.0
    kind = 1 if len(piece) < 4 or piece in merged else 3
    body = (b"\x0a" + bytes([len(text)]) + text
            + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
    data += b"\x0a" + bytes([len(body)]) + body
  path.write_bytes(data + b"\x12\x02\x18\x02")  # a trainer's field follows
  return str(path)


def json_file(path, pairs=False):
  path.write_text(json.dumps({
      "added_tokens": [{"id": i, "content": p}
                       for i, p in enumerate(PIECES[:4])],
      "model": {"vocab": {p: i for i, p in enumerate(PIECES)},
                "merges": [m.split(" ") if pairs else m for m in MERGES]}}))
  return str(path)


@pytest.fixture(params=["model", "json", "json_pairs"])
def path(request, tmp_path):
  if request.param == "model":
    return model_file(tmp_path / "tokenizer.model")
  return json_file(tmp_path / "tokenizer.json", request.param == "json_pairs")


def test_merges_are_made_best_first(path):
  ids = lambda text: [PIECES[i] for i in tokenizer.prompt_ids(text, path)]
  assert ids("road") == ["<bos>", "road", "\n"]
  assert ids("a road") == ["<bos>", "a", "▁road", "\n"]
  # "▁ a" comes before "a b": the space wins the a.
  assert ids("b ab") == ["<bos>", "b", "▁a", "b", "\n"]
  assert ids("é") == ["<bos>", "<0xC3>", "<0xA9>", "\n"]


def test_the_released_prompt_needs_no_file():
  assert tokenizer.prompt_ids("predict trajectory") == prompt.OFFICIAL_IDS
  assert prompt.OFFICIAL_IDS == (2, 33475, 51725, 108)
  with pytest.raises(errors.ConfigError, match="needs a tokenizer file"):
    tokenizer.prompt_ids("predict  trajectory")


@pytest.mark.parametrize("content", [
    b"", b"{}", b"{", b"<html>403</html>", b"\x0a\x7fshort",
    b'{"model": {"vocab": {"a": 1}, "merges": []}, "added_tokens": []}'])
def test_other_files_are_refused(tmp_path, content):
  (tmp_path / "x").write_bytes(content)
  with pytest.raises(errors.ConfigError, match="no tokenizer of PaliGemma"):
    tokenizer.prompt_ids("a", str(tmp_path / "x"))


@pytest.mark.skipif("PALIGEMMA_TOKENIZER" not in os.environ,
                    reason="PALIGEMMA_TOKENIZER names no tokenizer file")
def test_the_real_file_gives_the_released_ids():
  path = os.environ["PALIGEMMA_TOKENIZER"]
  assert tokenizer.prompt_ids("predict trajectory", path) == (
      prompt.OFFICIAL_IDS)
