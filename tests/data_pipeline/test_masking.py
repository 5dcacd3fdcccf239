"""Secrets are known by their names; nothing else is touched."""

import pytest

from data_pipeline import masking


@pytest.mark.parametrize("name", [
    "token", "HF_TOKEN", "WANDB_API_KEY", "wandb.apikey", "api-key",
    "data.password", "AWS_SECRET_ACCESS_KEY", "GOOGLE_CREDENTIALS",
    "auth_token", "client_secret", "hfToken", "wandb.wandbApiKey"])
def test_a_secret_is_known_by_its_name(name):
  assert masking.mask({name: "hunter2"}) == {name: masking.MASK}


@pytest.mark.parametrize("name", [
    "tokenizer", "text_len", "keep_last", "key", "tokenizer_path", "author",
    "api_key_file", "secretary", "routing", "apiKeyFile"])
def test_an_ordinary_name_keeps_its_value(name):
  assert masking.mask({name: "hunter2"}) == {name: "hunter2"}


def test_nested_values_are_hidden_and_the_original_is_left_alone():
  config = {"wandb": {"api_key": "hunter2", "project": "x"}, "seed": 0,
            "tokens": ("hunter2",)}
  assert masking.mask(config) == {
      "wandb": {"api_key": masking.MASK, "project": "x"}, "seed": 0,
      "tokens": masking.MASK}
  assert config["wandb"]["api_key"] == "hunter2"


def test_absent_secrets_and_numbers_stay_visible():
  values = {"token": "", "api_key": None, "max_tokens": 7, "use_token": True}
  assert masking.mask(values) == values


def test_passwords_within_addresses_are_hidden():
  assert masking.mask({"PROXY": "http://me:hunter2@proxy:80/x"}) == {
      "PROXY": "http://***@proxy:80/x"}
  assert masking.mask({"root": "gs://bucket/a@b"}) == {
      "root": "gs://bucket/a@b"}
  assert masking.mask({"roots": ["s3://a:b@c/d", ("x", 1)]}) == {
      "roots": ["s3://***@c/d", ("x", 1)]}


def test_a_command_line_is_hidden_by_its_flags_names():
  assert masking.mask_arguments(
      ["--config", "a.py", "--config.wandb.api_key=hunter2",
       "--config.seed=1", "--api-key-file=KEY"]) == [
           "--config", "a.py", "--config.wandb.api_key=***",
           "--config.seed=1", "--api-key-file=KEY"]
