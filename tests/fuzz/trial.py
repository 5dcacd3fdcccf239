"""One reader against damaged files: what it may do, and what is counted."""

import collections
import dataclasses
import os
import pathlib
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable

import hypothesis
from hypothesis import strategies as st

from data_pipeline import errors
from tests.fuzz import edits, guard

LONGEST = 2000  # characters of a message
PHASES = (hypothesis.Phase.generate, hypothesis.Phase.shrink)


@dataclasses.dataclass(frozen=True)
class Reader:
  """Something that reads what others wrote.

  Attributes:
    make: folder -> None, writes a valid case there.
    files: {relative path: codec} of what is damaged; or function of the
      folder that finds them.
    read: folder -> whatever; raises errors.UserError for what it refuses.
    share: of a long run. quick: cases of the quick suite.
    changes: it writes there, so that every case needs a fresh copy.
    native: it reads in threads of another language, which a limit on memory
      would end; its peak is told all the same.
  """

  name: str
  make: Callable
  files: dict | Callable
  read: Callable
  share: float = 1.0
  quick: int = 8
  changes: bool = False
  native: bool = False


@dataclasses.dataclass
class Outcome:
  """Counts of a run. faults: {what: (recipe, traceback)}."""

  cases: int = 0
  taken: int = 0
  refused: int = 0
  faults: dict = dataclasses.field(default_factory=dict)
  seconds: float = 0.0
  grown: int = 0
  messages: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)


class Trial:
  """A valid case on disk, damaged and put right again for every example."""

  def __init__(self, reader, arena):
    self.reader, self._arena = reader, pathlib.Path(arena)
    self._case, self._whole = self._arena / "case", self._arena / "whole"
    self._case.mkdir()
    reader.make(self._case)
    files = reader.files
    self.files = files(self._case) if callable(files) else files
    if reader.changes:
      shutil.copytree(self._case, self._whole, symlinks=True)
    outside = self._arena / "outside"
    outside.mkdir()
    (outside / "file").write_text("nobody's business")
    self._data = {path: (self._case / path).read_bytes()
                  for path in self.files}
    self.clock = guard.Clock()
    with guard.watched(self._arena, self._case):
      reader.read(self._case)  # whole files are taken
    if reader.changes:
      self._fresh()

  def cases(self):
    """Strategy of (path, recipe)."""
    return st.one_of([st.tuples(st.just(path), edits.damage(codec))
                      for path, codec in self.files.items()])

  def __call__(self, path, recipe):
    """Whether the damaged case is taken; what it must not do raises."""
    found = edits.damaged(self.files[path], self._data[path], recipe)
    place = self._case / path
    place.unlink()
    if found == "folder":
      place.mkdir()
    elif found == "dangling":
      place.symlink_to("nowhere")
    elif isinstance(found, bytes):
      place.write_bytes(found)
    try:
      with guard.watched(self._arena, self._case), self.clock:
        self.reader.read(self._case)
      return None
    except errors.UserError as error:
      return self._refusal(error)
    finally:
      self._repair(place, path)

  def _refusal(self, error):
    if guard.out_of_memory(error):
      raise guard.Violation(
          f"more than {guard.BYTES} bytes asked for") from error
    text = str(error)
    assert text.startswith(error.code + ": ") and len(text) > 20, text
    assert len(text) <= LONGEST, f"a message of {len(text)} characters"
    assert text.isprintable() or text.replace("\u202e", "").isprintable(), (
        f"control characters in {text!r}")
    return error

  def _repair(self, place, path):
    if self.reader.changes:
      self._fresh()
      return
    if place.is_dir() and not place.is_symlink():
      shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.write_bytes(self._data[path])

  def _fresh(self):
    shutil.rmtree(self._case)
    shutil.copytree(self._whole, self._case, symlinks=True)


def settings(cases, **kw):
  return hypothesis.settings(
      max_examples=cases, database=None, deadline=None,
      suppress_health_check=list(hypothesis.HealthCheck), **kw)


def check(reader, cases, arena):
  """The quick way: always the same cases, the first fault shrunk and raised.
  """
  trial = Trial(reader, arena)

  @settings(cases, derandomize=True, phases=PHASES)
  @hypothesis.given(trial.cases())
  def holds(case):
    trial(*case)

  with guard.limited(guard.BYTES * (64 if reader.native else 1)):
    holds()


def survey(reader, cases, seed, note=lambda case: None):
  """The long way: counts, and one example of every fault -> Outcome.

  Args:
    note: told every case before it is tried, for those that end the process.
  """
  outcome = Outcome()
  with tempfile.TemporaryDirectory(prefix="fuzz-") as arena:
    trial = Trial(reader, arena)
    before = guard.peak_bytes()

    paths = sorted(trial.files)
    with guard.limited(guard.BYTES * (64 if reader.native else 1)):
      for number in range(cases):
        rng = random.Random(f"{seed}/{reader.name}/{number}")
        path = rng.choice(paths)
        case = path, edits.drawn(trial.files[path], rng)
        note(case)
        outcome.cases += 1
        try:
          error = trial(*case)
          outcome.taken += error is None
          outcome.refused += error is not None
        except (Exception, guard.Violation) as error:
          outcome.faults.setdefault(signature(error), (
              repr(case)[:500], "".join(traceback.format_exception(error))))
    outcome.seconds = trial.clock.longest
    outcome.grown = guard.peak_bytes() - before
  return outcome


def signature(error):
  """What kind of fault an exception is, and where in our code it arose."""
  here = os.path.dirname(__file__)
  frames = [f"{os.path.relpath(f.filename)}:{f.lineno}"
            for f in traceback.extract_tb(error.__traceback__)
            if not f.filename.startswith(here)
            and "site-packages" not in f.filename and "/lib/" not in f.filename]
  what = str(error)[:60] if isinstance(error, (
      guard.Violation, AssertionError)) else ""
  return f"{type(error).__name__} {what} {frames[-1] if frames else ''}"
