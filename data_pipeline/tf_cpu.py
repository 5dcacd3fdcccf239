"""TensorFlow as a quiet CPU library: only the training loader needs it.

Importing it costs seconds, so nothing does before `tensorflow()` is called.
"""

import functools
import os


@functools.cache
def tensorflow():
  """Imports TensorFlow without its banner, any GPU, or JAX's XLA flags."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # Unused here, but its notice is printed at every log level.
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  import tensorflow as tf
  try:
    tf.config.set_visible_devices([], "GPU")  # they are JAX's
  except RuntimeError:
    pass  # the calling program uses TensorFlow already and has decided
  # TensorFlow has its own XLA. It reads XLA_FLAGS at its first compilation and
  # ends the process at a flag that only JAX's newer XLA knows.
  flags = os.environ.pop("XLA_FLAGS", None)
  try:
    tf.function(lambda x: x + 1.0, jit_compile=True)(1.0)
  finally:
    if flags is not None:
      os.environ["XLA_FLAGS"] = flags
  return tf
