"""Runs the model on golden cases of the official one and measures each error.

A case is a folder: `config.json` (sizes, loss and optimiser settings),
`weights.safetensors` under official names, `inputs.npz`, and what the official
model made of them. Every stored array is one quantity of the result; nothing
is passed over without a reason.

Axes: B samples, T vlm tokens, H waypoints, V views, E experts, K kept experts.
"""

import dataclasses
import functools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipeline import errors
from data_pipeline import spec
from drivemoe_jax import flow
from drivemoe_jax import losses
from drivemoe_jax import optim
from drivemoe_jax.models import drivemoe
from drivemoe_jax.weights import names
from drivemoe_jax.weights import read


# The release fixes the class weights in its code, whatever E is.
ALPHAS = {"camera": spec.alphas(spec.CAMERA_COUNTS),
          "skill": spec.alphas(spec.SKILL_COUNTS)}


@dataclasses.dataclass(frozen=True)
class Quantity:
  """Error of one array. `ok` is None only with a `why`."""

  name: str
  max_abs: float
  max_rel: float
  ok: bool | None
  why: str = ""

  def record(self):
    """As JSON, which has no infinity: an unmeasurable error is null."""
    finite = lambda x: x if np.isfinite(x) else None
    return {"name": self.name, "max_abs": finite(self.max_abs),
            "max_rel": finite(self.max_rel), "ok": self.ok, "why": self.why}


def _error(got, want):
  if not want.size:
    return 0.0, 0.0
  diff = np.abs(got - want)
  scale = np.abs(want).max()
  return float(diff.max()), float(diff.max() / scale) if scale else 0.0


def compare(name, got, want, rule):
  """Quantity of two arrays; `rule(got, want)` says whether they agree."""
  got, want = np.asarray(got), np.asarray(want)
  if got.shape != want.shape:
    return Quantity(name, float("inf"), float("inf"), False,
                    f"shape {got.shape}, want {want.shape}")
  got, want = got.astype(np.float64), want.astype(np.float64)
  finite = bool(np.isfinite(got).all())
  return Quantity(name, *(_error(got, want) if finite else (np.inf, np.inf)),
                  finite and bool(rule(got, want)))


def skipped(name, why):
  return Quantity(name, 0.0, 0.0, None, why)


# Tolerances in float32. The official model at tiny size differs from itself
# in float64 by a tenth of them.
def elementwise(got, want):
  return np.all(np.abs(got - want) <= 2e-5 + 1e-4 * np.abs(want))


def relative(bound):
  return lambda got, want: np.all(np.abs(got - want) <= bound * np.abs(want))


def of_largest(got, want):
  return np.abs(got - want).max(initial=0) <= 1e-5 * np.abs(want).max(initial=0)


def absolute(got, want):
  return np.all(np.abs(got - want) <= 1e-5)


def equal(got, want):
  return np.array_equal(got, want)


def gradient(got, want):
  return np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want) + 5e-7


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
    return jax.jit(jax.value_and_grad(self.loss, has_aux=True))

  @functools.cached_property
  def params(self):
    inputs = self.inputs  # made outside the trace
    shapes = jax.eval_shape(
        lambda: self.model.init(jax.random.key(0), **inputs)["params"])
    return read.official(self.path("weights.safetensors"), shapes).params


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


def run(folder):
  """All quantities of one case: list of Quantity."""
  case = Case(folder)
  (total, aux), grads = case.gradients(case.params)
  parts = [
      _outputs(case, total, aux, grads), _intermediates(case, aux[3]),
      _gradients(case, grads), _trace(case, "zerofill"),
      _trace(case, "torchskip")]
  return [q for part in parts for q in part]


def _top_k(weights, case):
  """(indices, weights) [B,K] in descending order, without shared experts."""
  skill = np.asarray(weights)[:, 0, :case.dims["num_skill_experts"]]
  index = np.argsort(-skill, axis=-1, kind="stable")[:, :case.dims["top_k"]]
  return index, np.take_along_axis(skill, index, -1)


def _outputs(case, total, aux, grads):
  velocity, out, metrics, seen = aux
  d, i = case.dims, case.arrays("inputs")
  got = {"loss_total": total, "loss_action": metrics["loss_action"],
         "v_psi": velocity, "psi_t": case.inputs["noisy_action"],
         "inputs_embeds": _raw_tokens(seen, d), "time_cond": seen["time"][0],
         "grad_global_norm": optax.tree.norm(optim.trained_gradients(grads))}
  if case.moe:
    index, weight = _top_k(out["skill_weights"], case)
    got |= {"loss_camera_weighted": metrics["loss_camera_weighted"],
            "loss_action_router_weighted": metrics["loss_skill_weighted"],
            "action_logits": out["skill_logits"][:, 0],
            "camera_logits": out["camera_logits"],
            "gumbel_soft_weights": out["view"],
            "selected_camera_idx": (i["camera_ids"] if d["stage"] == 1 else
                                    out["camera_logits"].argmax(-1)),
            "routing_topk_idx": index, "routing_topk_weight": weight}
  got |= _sampled(case)
  for key, want in case.arrays("outputs").items():
    name = f"outputs/{key}"
    rule = (relative(1e-5) if key.startswith("loss") else
            gradient if key == "grad_global_norm" else
            equal if want.dtype.kind == "i" else elementwise)
    yield (compare(name, got[key], want, rule) if key in got else
           skipped(name, "no counterpart in this model"))


def _sampled(case):
  """Inference quantities for each way to cache the prefix."""
  i, d = case.arrays("inputs"), case.dims
  got = {}
  for prefix, cached in (("infer", None), ("infer_naive_nocache", ()),
                         ("infer_naive_frozen_kv", ("vlm", "proprio"))):
    kw = {k: case.inputs[k] for k in ("images", "text", "proprio", "goal")}
    sample = jax.jit(functools.partial(
        drivemoe.sample, case.model, steps=d["num_inference_steps"],
        clip=d["final_action_clip_value"], cached=cached))
    action, out = sample(case.params, **kw, noise=i["infer_noise"])
    got |= {f"{prefix}_steps": out["points"],
            f"{prefix}_velocities": out["velocities"]}
    if case.moe:
      got[f"{prefix}_action_logits_steps"] = out["skill_logits_steps"][:, :, 0]
    if cached is None:
      got["infer_action"] = action
    if cached:
      got["infer_official_naive_action"] = action
  if case.moe:
    got |= {"infer_camera_logits": out["camera_logits"],
            "infer_selected_camera_idx": out["camera_logits"].argmax(-1)}
  kw = {k: case.inputs[k] for k in ("images", "text", "goal")}
  _, seen = jax.jit(functools.partial(
      case.model.apply, method="look", mutable=["intermediates"]))(
          {"params": case.params}, **kw)
  return got | {"infer_inputs_embeds": _raw_tokens(seen["intermediates"], d)}


def _raw_tokens(seen, dims):
  """The vlm stream as the release holds it, before the factor sqrt(D)."""
  return seen["vlm_tokens"][0] / dims["vlm_hidden"] ** 0.5


def _intermediates(case, seen):
  d = case.dims
  first = lambda x: x.reshape(len(case.inputs["images"]), -1, *x.shape[1:])[:, 0]
  vision = seen["img"]["vision_features"][0]
  projected = seen["img"]["projected"][0]
  got = {"vision_features_first": first(vision),
         "projected_first": first(projected),
         "action_embeds": seen["action_tokens"][0]}
  if case.moe:
    got["action_router_input"] = seen["joint"]["router_input"][0]
  start = 0
  for group in ("dense", "moe", "last"):
    if group not in seen["joint"]:
      continue
    streams = {s: x[0] for s, x in seen["joint"][group].items()}
    for stream, x in streams.items():                    # [n,B,T,D]
      got |= {f"layer{start + j}.{stream}": layer for j, layer in enumerate(x)}
    start += len(streams["action"])
  valid = case.arrays("inputs")["attention_mask"].astype(bool)
  for key, want in case.arrays("intermediates").items():
    value = np.asarray(got[key])
    if key.endswith(".vlm"):  # padded rows attend to everything: garbage
      value, want = value[valid], want[valid]
    yield compare(f"intermediates/{key}", value, want, of_largest)
  assert start == d["num_layers"]


def _gradients(case, grads):
  stats = case.json("grad_stats")
  got = dict(names.to_official(jax.device_get(grads)))
  zero = lambda key: not np.any(got[key])
  for key, want in case.arrays("grads").items():
    name = f"grads/{key}"
    if want.size:
      yield compare(name, got[key], want, gradient)
    else:  # the official model has no gradient here
      yield Quantity(name, float(np.abs(got[key]).max()), 0.0, zero(key))
  for key, want in stats["grads"].items():
    name = f"grad_stats/{key}"
    if want is not None:
      g = np.asarray(got[key], np.float64)
      bound = 1e-4 * want[0] + 5e-7
      # |sum d| <= sqrt(n) ||d||
      ok = (abs(np.linalg.norm(g) - want[0]) <= bound and
            abs(g.sum() - want[1]) <= bound * g.size ** 0.5)
      diff = abs(np.linalg.norm(g) - want[0])
      yield Quantity(name, diff, diff / want[0] if want[0] else 0.0, bool(ok))
    elif key in stats["frozen"] and not zero(key):
      yield skipped(name, "frozen: the official model takes no gradient here")
    else:
      yield Quantity(name, float(np.abs(got[key]).max()), 0.0, zero(key))


def _trace(case, variant):
  """Eight optimiser updates on one batch."""
  o, want = case.config["optimiser_trace"], case.arrays("train_trace")
  want = {k.removeprefix(f"{variant}."): v for k, v in want.items()
          if k.startswith(f"{variant}.")}
  rate = functools.partial(
      optim.learning_rate, max_lr=o["max_lr"], min_lr=o["min_lr"],
      warmup_updates=o["warmup_steps"], cycle_updates=o["first_cycle_steps"])
  b1, b2 = o["betas"]
  tx = optim.make(
      case.params, action_lr=rate, vlm_lr=rate, clip_norm=o["max_grad_norm"],
      b1=b1, b2=b2, eps=o["eps"],
      skip_unused_experts=case.moe and variant == "torchskip")
  got, params = _updates(case, tx, o["updates"])
  got["lr"] = [float(rate(k)) for k in range(o["updates"])]
  after = dict(names.to_official(jax.device_get(params)))
  agreed = o["updates"]
  if case.moe:
    same = [all(set(a) == set(b) for a, b in zip(x, y))
            for x, y in zip(got["topk_idx"], want["topk_idx"])]
    agreed = same.index(False) if False in same else agreed
  cut = "" if agreed == o["updates"] else (
      f"the top-k choice differs from update {agreed} on: updates before it "
      "compared")
  for key, value in want.items():
    name = f"train_trace/{variant}.{key}"
    if not agreed:  # the routing margin before the first update is ample
      yield Quantity(name, np.inf, np.inf, False,
                     "the top-k choice differs before any update")
      continue
    if key.startswith("after."):
      yield (skipped(name, cut) if cut else compare(
          name, after[key.removeprefix("after.")], value, absolute))
      continue
    rule = {"lr": relative(1e-9), "loss_total": relative(1e-4),
            "grad_norm": relative(1e-4), "topk_idx": equal,
            "topk_prob_margin": elementwise}[key]
    upto = len(value) if key == "lr" else agreed
    yield dataclasses.replace(
        compare(name, np.sort(got[key][:upto]) if key == "topk_idx" else
                got[key][:upto],
                np.sort(value[:upto]) if key == "topk_idx" else value[:upto],
                rule), why=cut)


def _updates(case, tx, count):
  """Values before each update, and the parameters after the last."""
  @jax.jit
  def update(params, state, grads):
    changes, state = tx.update(grads, state, params)
    norm = optax.tree.norm(optim.trained_gradients(grads))
    return optax.apply_updates(params, changes), state, norm

  got = {key: [] for key in ("loss_total", "grad_norm", "topk_idx",
                             "topk_prob_margin")}
  params, state = case.params, tx.init(case.params)
  for _ in range(count):
    (total, (_, out, _, _)), grads = case.gradients(params)
    params, state, norm = update(params, state, grads)
    got["loss_total"].append(total)
    got["grad_norm"].append(norm)
    if case.moe:
      got["topk_idx"].append(_top_k(out["skill_weights"], case)[0])
      p = np.sort(np.asarray(jax.nn.softmax(out["skill_logits"][:, 0])))[:, ::-1]
      k = case.dims["top_k"]
      got["topk_prob_margin"].append((p[:, k - 1] - p[:, k]).min())
  return got, params
