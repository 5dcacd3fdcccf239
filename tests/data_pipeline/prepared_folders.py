"""Four small routes, and folders prepared from them."""

import pathlib

from data_pipeline import prepare, raw_routes
from tests.data_pipeline import fixtures

SIZE, HORIZONS = 12, (5, 6)
OPTIONS = prepare.Options(size=SIZE, encoding="png", horizons=HORIZONS,
                          frames_per_shard=10)
LENGTHS = (9, 12, 8, 7)
NAMES = [fixtures.NAME.format(i) for i in range(len(LENGTHS))]
VAL = {NAMES[2]}
TEXT = dict(image_size=SIZE, prompt_ids=(2, 5, 7), text_len=6)


def write_routes(root):
  for name, frames in zip(NAMES, LENGTHS, strict=True):
    fixtures.write_route(root, name, frames=frames)
  return raw_routes.RawRoutes(str(root), str(root / "labels"))


def make(source, out, options=OPTIONS, **kw):
  said = []
  manifest = prepare.prepare(source, str(out), options, VAL,
                             say=said.append, **kw)
  return manifest, said


def contents(out):
  """{relative path: bytes} of all files in a finished folder."""
  return {str(path.relative_to(out)): path.read_bytes()
          for path in pathlib.Path(out).rglob("*") if path.is_file()}
