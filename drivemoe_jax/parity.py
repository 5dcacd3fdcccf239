"""Runs the model on golden cases of the official one and measures each error.

Every array that a case stores is one quantity of the result; nothing is passed
over without a reason.

Axes: B samples, T vlm tokens, H waypoints, V views, E experts, K kept experts.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax

from drivemoe_jax import golden, optim
from drivemoe_jax import step as steps
from drivemoe_jax import tolerance as tol
from drivemoe_jax.models import sampling
from drivemoe_jax.weights import names


def run(folder):
  """All quantities of one case: list of Quantity."""
  if golden.load_config(folder).get("model_type") == "paligemma":
    return _paligemma(folder)
  case = golden.Case(folder)
  (total, aux), grads = case.gradients(case.params)
  got = trained(case, total, aux) | _sampled(case) | {
      "grad_global_norm": optax.tree.norm(optim.trained_gradients(grads))}
  parts = [
      outputs(case, got), _intermediates(case, aux[3]),
      _gradients(case, grads), _trace(case, "zerofill"),
      _trace(case, "torchskip")]
  found = [q for part in parts for q in part]
  known = {q.name for q in found}
  return found + [tol.skipped(name, "no counterpart in this model")
                  for name in case.quantities() if name not in known]


def _paligemma(folder):
  """Every stored output, from every format; the first one's bears its name."""
  case, found = golden.PaliGemma(folder), []
  close = lambda got, want: np.all(np.abs(got - want) <= 2e-5)
  forward = steps.jit_once(case.run)
  for number, (name, weights) in enumerate(case.weights().items()):
    got = forward(*weights)
    for key, want in golden.load_arrays(folder, "outputs").items():
      label = f"outputs/{key}" + (f"@{name}" if number else "")
      rule = tol.elementwise if key.endswith("logits") else close
      found.append(
          tol.compare(label, got[key], want, rule) if key in got else
          tol.skipped(label, "no counterpart in this model"))
  return found


def _top_k(weights, case):
  """(indices, weights) [B,K] in descending order, without shared experts."""
  skill = np.asarray(weights)[:, 0, :case.dims["num_skill_experts"]]
  index = np.argsort(-skill, axis=-1, kind="stable")[:, :case.dims["top_k"]]
  return index, np.take_along_axis(skill, index, -1)


def outputs(case, got):
  """Compares {key: array} with the stored outputs of the same keys."""
  for key, want in case.arrays("outputs").items():
    name = f"outputs/{key}"
    rule = (tol.relative(1e-5) if key.startswith("loss") else
            tol.gradient if key == "grad_global_norm" else
            tol.equal if want.dtype.kind == "i" else
            tol.elementwise)
    if key in got:
      yield tol.compare(name, got[key], want, rule)


def trained(case, total, aux):
  """The training pass: losses, router outputs, velocity by key."""
  velocity, out, metrics, seen = aux
  d, i = case.dims, case.arrays("inputs")
  got = {"loss_total": total, "loss_action": metrics["loss_action"],
         "v_psi": velocity, "psi_t": case.inputs["noisy_action"],
         "inputs_embeds": _raw_tokens(seen, d), "time_cond": seen["time"][0]}
  if not case.moe:
    return got
  index, weight = _top_k(out["skill_weights"], case)
  return got | {
      "loss_camera_weighted": metrics["loss_camera_weighted"],
      "loss_action_router_weighted": metrics["loss_skill_weighted"],
      "action_logits": out["skill_logits"][:, 0],
      "camera_logits": out["camera_logits"],
      "gumbel_soft_weights": out["view"],
      "selected_camera_idx": (i["camera_ids"] if d["stage"] == 1 else
                              out["camera_logits"].argmax(-1)),
      "routing_topk_idx": index, "routing_topk_weight": weight}


def _sampled(case):
  """Inference quantities for each way to cache the prefix."""
  i, d = case.arrays("inputs"), case.dims
  got, plans = {}, {}
  for prefix, cached in (("infer", None), ("infer_naive_nocache", ()),
                         ("infer_naive_frozen_kv", ("vlm", "proprio"))):
    kw = {k: case.inputs[k] for k in ("images", "text", "proprio", "goal")}
    cached = sampling.cacheable(case.model) if cached is None else cached
    if cached not in plans:
      plans[cached] = steps.jit_once(functools.partial(
          sampling.sample, case.model, steps=d["num_inference_steps"],
          clip=d["final_action_clip_value"], cached=cached))(
              case.params, **kw, noise=i["infer_noise"])
    action, out = plans[cached]
    got |= {f"{prefix}_steps": out["points"],
            f"{prefix}_velocities": out["velocities"]}
    if case.moe:
      got[f"{prefix}_action_logits_steps"] = out["skill_logits_steps"][:, :, 0]
    if prefix == "infer":
      got["infer_action"] = action
    if prefix == "infer_naive_frozen_kv":
      got["infer_official_naive_action"] = action
  if case.moe:
    got |= {"infer_camera_logits": out["camera_logits"],
            "infer_selected_camera_idx": out["camera_logits"].argmax(-1)}
  kw = {k: case.inputs[k] for k in ("images", "text", "goal")}
  _, seen = steps.jit_once(functools.partial(
      case.model.apply, method="look", mutable=["intermediates"]))(
          {"params": case.params}, **kw)
  return got | {"infer_inputs_embeds": _raw_tokens(seen["intermediates"], d)}


def _raw_tokens(seen, dims):
  """The vlm stream as the release holds it, before the factor sqrt(D)."""
  return seen["vlm_tokens"][0] / dims["vlm_hidden"] ** 0.5


def _intermediates(case, seen):
  d = case.dims
  batch = len(case.inputs["images"])
  first = lambda x: x.reshape(batch, -1, *x.shape[1:])[:, 0]
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
    yield tol.compare(f"intermediates/{key}", value, want,
                      tol.of_largest)
  assert start == d["num_layers"]


def _gradients(case, grads):
  stats = case.json("grad_stats")
  got = dict(names.to_official(jax.device_get(grads)))
  zero = lambda key: not np.any(got[key])
  largest = lambda key: float(np.abs(got[key]).max())
  for key, want in case.arrays("grads").items():
    name = f"grads/{key}"
    if want.size:
      yield tol.compare(name, got[key], want, tol.gradient)
    else:  # the official model has no gradient here
      yield tol.Quantity(name, largest(key), 0.0, zero(key))
  for key, want in stats["grads"].items():
    name = f"grad_stats/{key}"
    if want is not None:
      g = np.asarray(got[key], np.float64)
      bound = 1e-4 * want[0] + 5e-7
      # |sum d| <= sqrt(n) ||d||
      ok = (abs(np.linalg.norm(g) - want[0]) <= bound and
            abs(g.sum() - want[1]) <= bound * g.size ** 0.5)
      diff = abs(np.linalg.norm(g) - want[0])
      rel = diff / want[0] if want[0] else 0.0
      yield tol.Quantity(name, diff, rel, bool(ok))
    elif key in stats["frozen"] and not zero(key):
      yield tol.skipped(
          name, "frozen: the official model takes no gradient here")
    else:
      yield tol.Quantity(name, largest(key), 0.0, zero(key))


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
  if case.moe:  # as sets
    got["topk_idx"] = np.sort(got["topk_idx"])
    want["topk_idx"] = np.sort(want["topk_idx"])
    same = (got["topk_idx"] == want["topk_idx"]).all((1, 2))
    agreed = int(np.argmin(same)) if not same.all() else agreed
  cut = "" if agreed == o["updates"] else (
      f"the top-k choice differs from update {agreed} on: compared before it")
  rules = {"lr": tol.relative(1e-9), "loss_total": tol.relative(1e-4),
           "grad_norm": tol.relative(1e-4), "topk_idx": tol.equal,
           "topk_prob_margin": tol.elementwise}
  for key, value in want.items():
    name = f"train_trace/{variant}.{key}"
    if not agreed:  # the routing margin before the first update is ample
      yield tol.Quantity(name, np.inf, np.inf, False,
                         "the top-k choice differs before any update")
    elif key in rules:
      upto = len(value) if key == "lr" else agreed
      yield dataclasses.replace(tol.compare(
          name, got[key][:upto], value[:upto], rules[key]), why=cut)
    elif cut:
      yield tol.skipped(name, cut)
    else:
      yield tol.compare(name, after[key.removeprefix("after.")], value,
                        tol.absolute)


def _updates(case, tx, count):
  """Values before each update, and the parameters after the last."""
  @steps.jit_once
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
      p = np.sort(jax.nn.softmax(out["skill_logits"][:, 0]))  # ascending
      k = case.dims["top_k"]
      got["topk_prob_margin"].append((p[:, -k] - p[:, -k - 1]).min())
  return got, params
