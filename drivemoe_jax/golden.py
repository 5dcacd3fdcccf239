"""A golden case: a folder that holds one run of the official model.

`config.json` has sizes, loss and optimiser settings, `weights.safetensors` the
weights under official names, `inputs.npz` what went in; the other files hold
what came out. A case of PaliGemma alone holds the weights in two formats.
"""

import dataclasses
import functools
import os
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline import errors, reading, spec
from drivemoe_jax import flow, losses
from drivemoe_jax import step as steps
from drivemoe_jax.models import attention, drivemoe, gemma, joint
from drivemoe_jax.weights import names, read, write

# The release fixes the class weights in its code, whatever E is.
ALPHAS = {"camera": spec.alphas(spec.CAMERA_COUNTS),
          "skill": spec.alphas(spec.SKILL_COUNTS)}


STEMS = ("outputs", "intermediates", "grads", "train_trace")


def load_config(folder):
  """config.json of a case."""
  config = _read_json(folder, "config")
  if not isinstance(config, dict) or not (
      {"dims", "kind"} <= config.keys() or "model_type" in config):
    raise errors.DataError(f"{_file(folder, 'config.json')} describes no "
                           "golden case; name a folder of reference data")
  return config


def _file(folder, name):
  path = os.path.join(folder, name)
  if not os.path.isfile(path):
    raise errors.DataError(f"{path} is missing: not a golden case")
  return path


def _read_json(folder, stem):
  return reading.json_file(_file(folder, f"{stem}.json"), "copy it again")


def load_arrays(folder, stem):
  """{key: array} of an .npz of a case."""
  path = _file(folder, f"{stem}.npz")
  try:
    return reading.arrays(path)
  except (OSError, ValueError) as error:
    raise errors.DataError(
        f"{path} is no whole .npz ({error}); copy it again") from None


def case_name(folder):
  return os.path.basename(os.path.normpath(folder))


class Case:
  """One golden folder."""

  def __init__(self, folder):
    self.folder = folder
    self.config = load_config(folder)
    self.dims = self.config["dims"]
    self.moe = self.config["kind"] == "drivemoe"
    self.model = drivemoe.DriveMoE(**sizes(self.config))

  def json(self, stem):
    return _read_json(self.folder, stem)

  def arrays(self, stem):
    return load_arrays(self.folder, stem)

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
    return read.load(
        _file(self.folder, "weights.safetensors"), shapes).params


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


class PaliGemma:
  """A case of PaliGemma alone, read from every format that can hold it."""

  def __init__(self, folder):
    self.folder = folder
    config = load_config(folder)
    text, vision = config["text_config"], config["vision_config"]
    self.inputs = load_arrays(folder, "inputs")
    # Its weights drive the smallest expert there can be, for the .pt's sake.
    self.model = drivemoe.DriveMoE(
        vision_width=vision["hidden_size"],
        vision_layers=vision["num_hidden_layers"],
        vision_heads=vision["num_attention_heads"],
        vision_mlp=vision["intermediate_size"],
        vision_norm_eps=vision["layer_norm_eps"],
        image_size=vision["image_size"], patch_size=vision["patch_size"],
        vlm_width=text["hidden_size"], vlm_mlp=text["intermediate_size"],
        layers=text["num_hidden_layers"], heads=text["num_attention_heads"],
        kv_heads=text["num_key_value_heads"], head_dim=text["head_dim"],
        vocab_size=text["vocab_size"], rms_norm_eps=text["rms_norm_eps"],
        rope_theta=text["rope_parameters"]["rope_theta"],
        text_len=self.inputs["text"].shape[1], expert_width=8, expert_mlp=8,
        moe_layers=0, skill_experts=1, shared_experts=0, top_k=1, view=())

  def weights(self):
    """{format: (params, final norm)}: img and llm as each format gives them."""
    whole = steps.param_shapes(self.model)
    alone = {part: whole[part] for part in ("img", "llm")}
    found = {name: read.load(_file(self.folder, file), alone)
             for name, file in (("npz", "bv_tiny.npz"),
                                ("hf", "hf_tiny.safetensors"))}
    fresh = jax.device_get(steps.jit_once(
        lambda key: steps.init_params(self.model, key))(jax.random.key(0)))
    with tempfile.TemporaryDirectory() as folder:
      path = write.write(os.path.join(folder, "x.pt"), read.Weights(
          fresh | found["hf"].params, {}, {}))
      found["pt"] = dataclasses.replace(
          read.load(path, whole), carried=found["hf"].carried)
    return {name: (weights.params, weights.carried[read.CARRIED])
            for name, weights in found.items()}

  def run(self, params, final_norm):
    """{key of outputs.npz: array}, one full bidirectional pass."""
    model, text = self.model, self.inputs["text"]
    tokens, seen = model.apply(
        {"params": params}, self.inputs["image"][:, None], method="encode",
        mutable=["intermediates"])
    words = model.apply({"params": params}, text,
                        method=lambda m, ids: m.llm.embedder(ids))
    stream = jnp.concatenate([tokens[:, 0], words], axis=1)  # [B,T,D]
    norm = gemma.Norm(model.rms_norm_eps, jnp.float32)
    end = lambda x: norm.apply({"params": {"scale": final_norm}}, x)
    plain, capped = (language_layers(model, params, stream, cap)
                     for cap in (0, 50))
    table = params["llm"]["embedder"]["input_embedding"]
    rows = names.table_rows(len(table))
    hidden = end(plain)
    return {
        "vision_hidden": seen["intermediates"]["img"]["vision_features"][0],
        "image_features": tokens[:, 0], "bv_zimg": tokens[:, 0],
        "text_embeds_scaled": words,
        "lm_hidden": hidden, "bv_pre_logits": hidden,
        "lm_hidden_softcap50_prenorm": capped,
        "lm_hidden_softcap50": end(capped),
        "bv_pre_logits_softcap50": end(capped),
        "bv_text_logits": hidden[:, -text.shape[1]:] @ table[:rows].T}  # pyright: ignore[reportCallIssue]


def language_layers(model, params, x, softcap):
  """Every layer of the language model, the last one to its end.

  Args:
    model: DriveMoE whose sizes count. params: with llm/layers.
    x: [B,T,D], all of which see each other. softcap: 0 leaves logits uncapped.

  Returns:
    [B,T,D] before the final norm.
  """
  m = model
  layer = gemma.StreamLayer(
      m.vlm_width, m.vlm_mlp, m.heads, m.kv_heads, m.head_dim,
      m.rms_norm_eps, m.rope_theta, jnp.float32)
  b, t, _ = x.shape
  allowed = jnp.ones((b, t, t), bool)
  for name, size in joint.groups(m.layers, 0).items():
    for i in range(size):
      own = {"params": jax.tree.map(
          lambda leaf, i=i: leaf[i], params["llm"]["layers"][name])}
      q, k, v = layer.apply(own, x, 1 + jnp.arange(t), None, method="project")  # pyright: ignore[reportAssignmentType]
      x, _ = layer.apply(own, x, attention.attend(q, k, v, allowed, softcap),
                         None, method="absorb")
  return x
