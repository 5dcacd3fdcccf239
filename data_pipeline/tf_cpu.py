"""TensorFlow as a quiet CPU library: only the training loader needs it.

Importing it costs seconds, so nothing does before `tensorflow()` is called.
"""

import contextlib
import functools
import os


@functools.cache
def tensorflow():
  """Imports TensorFlow without its banner, any GPU, or JAX's XLA flags."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # Unused here, but its notice is printed at every log level.
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  # Keras would come along, a third of the time; who asks for it still gets it.
  with _environment("TF_USE_LEGACY_KERAS", "1"):
    import tensorflow as tf
  try:
    tf.config.set_visible_devices([], "GPU")  # they are JAX's
  except RuntimeError:
    pass  # the calling program uses TensorFlow already and has decided
  # TensorFlow has its own XLA. It reads XLA_FLAGS at its first compilation and
  # ends the process at a flag that only JAX's newer XLA knows.
  with _environment("XLA_FLAGS", None):
    tf.function(lambda x: x + 1.0, jit_compile=True)(1.0)
  return tf


@contextlib.contextmanager
def _environment(name, value):
  """Sets a variable for a while; None takes it away."""
  before = os.environ.pop(name, None)
  if value is not None:
    os.environ[name] = value
  try:
    yield
  finally:
    os.environ.pop(name, None)
    if before is not None:
      os.environ[name] = before
