"""Compares our model with a plain PyTorch one on exported weights.

The other model is launch.bench's, written from the description of the model
and from the official names alone: it shares nothing with ours.
"""

import importlib

import numpy as np
import safetensors

from data_pipeline import errors
from drivemoe_jax import build, tolerance
from drivemoe_jax import step as steps
from drivemoe_jax.models import drivemoe
from drivemoe_jax.weights import read


def require():
  """The PyTorch model, or a ConfigError where torch is missing."""
  try:
    importlib.import_module("torch")  # the model may have been loaded before
    return importlib.import_module("launch.bench.pytorch_port")
  except ImportError as error:
    raise errors.ConfigError(
        f"--check-forward needs torch ({error}): install its CPU build"
        ) from None


def compare(path, config):
  """Runs both on the same random inputs.

  Args:
    path: an official file. config: of the run, as a dict.

  Returns:
    [(name, largest absolute difference)].

  Raises:
    CheckpointError: a difference beyond float32's rounding.
  """
  config = build.from_json(config)
  config.model.dtype, config.model.remat = "float32", "none"
  model = build.model(config)
  params = read.load(path, steps.param_shapes(model)).params
  inputs = example(model, config.prompt_ids)
  velocity, out = steps.jit_once(model.apply)({"params": params}, **inputs)
  theirs = require().forward(tensors(path), model, inputs)
  rows = []
  for name, ours in (("velocity", velocity),
                     ("camera_logits", out["camera_logits"]),
                     ("skill_logits", out["skill_logits"])):
    if ours is None:
      continue
    found = tolerance.compare(name, ours, theirs[name], tolerance.elementwise)
    rows.append((name, found.max_abs))
    if not found.ok:
      raise errors.CheckpointError(
          f"{path}: {name} differs by {found.max_abs:.1e} between JAX and "
          "PyTorch, more than float32 rounds; the export is not kept")
  return rows


def example(model, prompt_ids):
  """Inputs of one sample, every number another."""
  rng, b, s = np.random.default_rng(0), 2, model.image_size
  text = np.zeros((b, model.text_len), np.int32)
  text[:, :len(prompt_ids)] = prompt_ids
  normal = lambda *shape: rng.standard_normal((b, *shape), np.float32)
  images = drivemoe.FRONTS + model.num_views
  return {"images": rng.integers(0, 256, (b, images, s, s, 3), np.uint8),
          "text": text, "proprio": normal(model.history, model.proprio_dim),
          "goal": normal(2), "time": rng.random(b, np.float32),
          "noisy_action": normal(model.horizon, model.action_dim)}


def tensors(path):
  """{official key: float32 array} as torch and safetensors read the file."""
  import torch
  if _is_zip(path):
    model = torch.load(path, map_location="cpu", weights_only=True)["model"]
  else:
    with safetensors.safe_open(path, "pt") as file:
      model = {key: file.get_tensor(key) for key in file.keys()}
  return {key: tensor.float() for key, tensor in model.items()}


def _is_zip(path):
  with open(path, "rb") as file:
    return file.read(2) == b"PK"
