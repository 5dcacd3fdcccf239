"""The rules and the numbers as Markdown; docs/labels.md holds its output."""

import dataclasses

from data_pipeline.labels import constants as consts
from data_pipeline.labels import rules


def tables():
  """Returns the whole text: rules of both kinds, then the constants."""
  return "\n\n".join([
      f"Rules version {consts.VERSION}.",
      "### Camera rules\n\n" + rule_table(rules.CAMERA_RULES),
      "### Skill rules\n\n" + rule_table(rules.SKILL_RULES),
      "### Types that brake\n\n" + _table(
          ("type", "brakes for"), sorted(consts.HAZARDS.items())),
      "### Constants\n\n" + constants()]) + "\n"


def rule_table(table):
  """One row per rule, in order."""
  return _table(("id", "rule", "scenario types", "holds", "label"), [
      (rule.id, rule.name, rule.types, rule.when, rule.label)
      for rule in table])


def constants(c=consts.DEFAULTS):
  """One row per number, with unit, meaning and source."""
  return _table(("name", "value", "meaning", "source"), [
      (f"`{field.name}`",
       f"{getattr(c, field.name)} {field.metadata['unit']}".strip(),
       field.metadata["meaning"], field.metadata["source"])
      for field in dataclasses.fields(c)])


def _table(head, rows):
  escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
  lines = [head, ["---"] * len(head), *escaped]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
