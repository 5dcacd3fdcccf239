"""A slice of the fuzzing that always takes the same cases; see __main__.py."""

import pytest

from tests.fuzz import readers, trial


@pytest.mark.parametrize("reader", readers.ALL, ids=lambda r: r.name)
def test_broken_files_are_taken_or_refused_politely(reader, tmp_path):
  trial.check(reader, reader.quick, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", readers.ALL, ids=lambda r: r.name)
def test_many_broken_files_are_taken_or_refused_politely(reader):
  outcome = trial.survey(reader, max(20, int(300 * reader.share)), seed=7)
  assert not outcome.faults, next(iter(outcome.faults.items()))
