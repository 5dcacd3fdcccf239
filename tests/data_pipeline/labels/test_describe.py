"""The page about the labels holds the rules and numbers that are in force."""

import dataclasses
import pathlib

from data_pipeline.labels import constants as consts
from data_pipeline.labels import describe, rules

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_page_ends_with_what_the_command_prints():
  page = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
  assert page.endswith(describe.tables()), (
      "write the output of `python -m launch.make_labels --rules` there")


def test_every_rule_and_every_number_has_a_row():
  text = describe.tables()
  ids = [rule.id for rule in (*rules.CAMERA_RULES, *rules.SKILL_RULES)]
  assert ids == [f"C{i}" for i in range(1, 10)] + [
      f"S{i}" for i in range(1, 8)]
  for rule in ids:
    assert f"\n| {rule} |" in text
  for field in dataclasses.fields(consts.Constants):
    assert f"\n| `{field.name}` |" in text


def test_rows_have_as_many_cells_as_their_table():
  for table in describe.tables().split("\n\n"):
    rows = [line for line in table.splitlines() if line.startswith("|")]
    cells = {row.replace(r"\|", "").count("|") for row in rows}
    assert len(cells) <= 1, table
