"""The release's oddities: named, ours by default, its own with one switch."""

import dataclasses

import pytest

from data_pipeline import errors, options


def test_parity_is_another_value_of_every_option_that_we_changed():
  ours = dataclasses.asdict(options.Options())
  theirs = dataclasses.asdict(options.OFFICIAL)
  same = {name for name in ours if ours[name] == theirs[name]}
  assert same == {"drop_current_point"}  # ours to offer, not the default


def test_a_heading_source_must_exist():
  with pytest.raises(errors.ConfigError, match="'gps'.*'box' or 'zero'"):
    options.Options(nan_heading="gps")
