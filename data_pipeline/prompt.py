"""Token ids of the fixed instruction: the model reads the same text always."""

import numpy as np

from data_pipeline import errors

# bos, "predict", " trajectory", newline in PaliGemma's vocabulary.
OFFICIAL_IDS = (2, 33475, 51725, 108)


def text_ids(prompt_ids, text_len):
  """Pads the prompt with zeros: -> [text_len] int32.

  Raises:
    ConfigError: no id, an id of 0 (that is the padding), or too many ids.
  """
  if not prompt_ids or min(prompt_ids) < 1:
    raise errors.ConfigError(
        f"prompt_ids {tuple(prompt_ids)} must be one or more ids above 0; 0 "
        "is the padding")
  if len(prompt_ids) > text_len:
    raise errors.ConfigError(
        f"prompt_ids has {len(prompt_ids)} ids but text_len is {text_len}; "
        "shorten the prompt or raise text_len")
  text = np.zeros(text_len, np.int32)
  text[:len(prompt_ids)] = prompt_ids
  return text
