"""A golden case: a folder that holds one run of the official model.

`config.json` has sizes, loss and optimiser settings, `weights.safetensors` the
weights under official names, `inputs.npz` what went in; the other files hold
what came out.
"""

import functools
import json
import os

import jax
import numpy as np

from data_pipeline import errors, spec
from drivemoe_jax import flow, losses
from drivemoe_jax import step as steps
from drivemoe_jax.models import drivemoe
from drivemoe_jax.weights import read

# The release fixes the class weights in its code, whatever E is.
ALPHAS = {"camera": spec.alphas(spec.CAMERA_COUNTS),
          "skill": spec.alphas(spec.SKILL_COUNTS)}


STEMS = ("outputs", "intermediates", "grads", "train_trace")


def case_name(folder):
  return os.path.basename(os.path.normpath(folder))


class Case:
  """One golden folder."""

  def __init__(self, folder):
    self.folder = folder
    self.config = self.json("config")
    self.dims = self.config["dims"]
    self.moe = self.config["kind"] == "drivemoe"
    self.model = drivemoe.DriveMoE(**sizes(self.config))

  def path(self, name):
    path = os.path.join(self.folder, name)
    if not os.path.isfile(path):
      raise errors.DataError(f"{path} is missing: not a golden case")
    return path

  def json(self, stem):
    with open(self.path(f"{stem}.json"), encoding="utf-8") as file:
      return json.load(file)

  def arrays(self, stem):
    with np.load(self.path(f"{stem}.npz")) as file:
      return {key: file[key] for key in file.files}

  def quantities(self):
    """Names of all that the case stores to compare with."""
    return [f"{stem}/{key}" for stem in STEMS for key in self.arrays(stem)] + [
        f"grad_stats/{key}" for key in self.json("grad_stats")["grads"]]

  @functools.cached_property
  def inputs(self):
    """The model's keyword arguments in training."""
    i = self.arrays("inputs")
    images = i["pixel_values"].transpose(0, 1, 3, 4, 2)
    text = i["input_ids"][:, self.dims["num_image_tokens"]:]
    kw = {"images": images, "text": text.astype(np.int32),
          "proprio": i["proprios"], "time": i["t"],
          "goal": i["waypoints"] if self.moe else np.zeros((len(text), 2)),
          "noisy_action": np.asarray(flow.interpolate(
              i["x0_noise"], i["actions"], i["t"], self.dims["flow_sig_min"]))}
    if self.moe and self.dims["stage"] == 1:
      return kw | {"camera_choice": "label",
                   "camera": i["camera_ids"].astype(np.int32)}
    if self.moe:
      noise = i["gumbel_noise"] * (self.config["gumbel"] == "noise")
      return kw | {"camera_choice": "straight_through", "gumbel": noise}
    return kw

  def loss(self, params):
    """Official total loss; the rest of the forward pass as aux."""
    i = self.arrays("inputs")
    (velocity, out), seen = self.model.apply(
        {"params": params}, **self.inputs, mutable=["intermediates"])
    target = flow.target_velocity(i["x0_noise"], i["actions"],
                                  self.dims["flow_sig_min"])
    label = lambda key: i[key].astype(np.int32) if self.moe else None
    total, metrics = losses.total(
        velocity, target, out, label("camera_ids"), label("scenario_ids"),
        weights={"action": self.dims["action_weight"],
                 "camera": self.dims["camera_router_weight"],
                 "skill": self.dims["action_router_weight"]},
        alphas=ALPHAS, gamma=self.dims["gamma"])
    return total, (velocity, out, metrics, seen["intermediates"])

  @functools.cached_property
  def gradients(self):
    """Compiled params -> ((loss, aux), gradients)."""
    return steps.jit_once(jax.value_and_grad(self.loss, has_aux=True))

  @functools.cached_property
  def params(self):
    inputs = self.inputs  # made outside the trace
    shapes = jax.eval_shape(
        lambda: self.model.init(jax.random.key(0), **inputs)["params"])
    return read.load(self.path("weights.safetensors"), shapes).params


def sizes(config):
  """DriveMoE attributes of a golden config."""
  d = config["dims"]
  same = ("vision_layers", "vision_heads", "image_size", "patch_size",
          "head_dim", "top_k", "vocab_size", "text_len", "proprio_dim",
          "action_dim", "rms_norm_eps", "rope_theta")
  renamed = {
      "vision_width": "vision_hidden", "vision_mlp": "vision_intermediate",
      "vision_norm_eps": "layer_norm_eps", "vlm_width": "vlm_hidden",
      "vlm_mlp": "vlm_intermediate", "expert_width": "expert_hidden",
      "expert_mlp": "expert_intermediate", "layers": "num_layers",
      "heads": "num_heads", "kv_heads": "num_kv_heads",
      "skill_experts": "num_skill_experts",
      "shared_experts": "num_shared_experts", "history": "cond_steps",
      "horizon": "horizon_steps", "time_width": "time_hidden_size",
      "adaptive": "adaptive_mode"}
  kw = {key: d[key] for key in same} | {k: d[v] for k, v in renamed.items()}
  moe = config["kind"] == "drivemoe"
  return kw | {"moe_layers": d["num_moe_layers"] if moe else 0,
               "num_views": d["num_images"] - drivemoe.FRONTS if moe else 5,
               "view": "dynamic" if moe else (),
               "camera_heads": config.get("num_camera_heads", 8)}
