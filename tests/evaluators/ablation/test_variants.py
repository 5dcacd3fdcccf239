"""Which rows there are, and what each of them trains."""

import pytest

from configs import common
from data_pipeline import errors
from drivemoe_jax import build, datasets
from drivemoe_jax.evaluators.ablation import variants
from launch import cli


def config(variant):
  return cli.load_config(f"configs/mini.py:{variant.argument}", [
      f"--config.{change}" for change in variant.overrides])


def test_there_are_eleven_variants_of_three_seeds():
  rows = variants.rows()
  assert len(rows) == len({row.name for row in rows}) == 33
  # A run that is stopped early has whole seeds of all variants.
  assert {row.seed for row in rows[:11]} == {0}


def test_rows_by_pattern():
  names = lambda pattern: [row.name for row in variants.rows(pattern)]
  assert names("pi0-*") == ["pi0-0", "pi0-1", "pi0-2"]
  assert names("token-1, pi0-1") == ["pi0-1", "token-1"]
  assert len(names("*-0")) == 11 and names(None) == names("*")
  for wrong in ("pi0", "", "pi0-*,what-0", "pi0-3"):
    with pytest.raises(errors.ConfigError, match="VARIANT-SEED"):
      names(wrong)


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda v: v.name)
def test_a_variant_is_what_its_title_says(variant):
  c = config(variant)
  model, fixed = build.model(c), c.model.view != "dynamic"
  assert c.model.routing == ("token" if variant.name == "token"
                             else "trajectory")
  assert (c.model.moe_layers == 0) == (variant.name == "pi0")
  assert (c.loss.camera > 0) == (variant.name in ("token", "trajectory"))
  assert (c.loss.skill > 0) == (variant.name != "pi0")
  seen = datasets.views(c)  # what training reads besides both front images
  many = 5 if seen is None else 1 if seen == "label" else len(seen)
  assert variant.images == 2 + many
  assert fixed == (variant.argument.startswith("views="))
  assert model.num_views == 5


def test_no_variant_is_slower_than_those_that_are_timed():
  least = min(v.images for v in variants.HEAVIEST)
  assert all(v.images <= least for v in variants.VARIANTS
             if v not in variants.HEAVIEST)


def test_variants_differ_in_what_they_say_alone():
  flat = common.flatten
  full = flat(config(variants.BY_NAME["trajectory"]))
  for variant in variants.VARIANTS:
    other = flat(config(variant))
    differ = {key for key in full if full[key] != other[key]}
    assert differ <= {"model.view", "model.routing", "model.moe_layers",
                      "loss.skill", "loss.camera", "camera_choice"}
