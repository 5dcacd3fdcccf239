"""Keeps secrets out of what is written down: judged by a value's name.

A run's config goes to config.json, into every checkpoint, to the log's lines
and to Weights & Biases; from there it cannot be called back.
"""

import re

MASK = "***"
# Parts of a name, between underscores, dots or capitals. `tokenizer` is none.
_SECRET = re.compile(
    r"(?:^|[_.-])(?:api[_-]?key|access[_-]?key|private[_-]?key|secret|secrets|token"
    r"|tokens|password|passwd|passphrase|credential|credentials|auth"
    r"|netrc)(?=$|[_.-])", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HARMLESS = re.compile(r"[_.-](?:file|path|folder|dir)$", re.IGNORECASE)
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def is_secret(name):
  """Whether a value of this name must not be shown; a file's path may be."""
  name = _CAPITAL.sub("_", name)
  return bool(_SECRET.search(name)) and not _HARMLESS.search(name)


def mask(values):
  """Copy of a dict, nested or not, with the secrets' values hidden.

  Empty values stay, so that a missing token can be seen; numbers and truth
  values stay, because `max_tokens` is no secret. User names and passwords
  within addresses are hidden wherever they stand.
  """
  hidden = {}
  for name, value in values.items():
    if isinstance(value, dict):
      hidden[name] = mask(value)
    elif is_secret(str(name)) and _holds_words(value):
      hidden[name] = MASK
    else:
      hidden[name] = _without_users(value)
  return hidden


def mask_arguments(arguments):
  """Command line with the values of --config.SECRET=VALUE hidden."""
  shown = []
  for argument in arguments:
    name, equals, _ = argument.partition("=")
    secret = equals and is_secret(name.lstrip("-"))
    shown.append(f"{name}={MASK}" if secret else _USER_IN_ADDRESS.sub(
        MASK, argument))
  return shown


def _without_users(value):
  if isinstance(value, list | tuple):
    return type(value)(map(_without_users, value))
  return (_USER_IN_ADDRESS.sub(MASK, value) if isinstance(value, str)
          else value)


def _holds_words(value):
  if isinstance(value, list | tuple):
    return any(map(_holds_words, value))
  return isinstance(value, str) and bool(value)
