"""PyTorch's sides of the races; jax_sides.py's, call by call.

Axes: B samples, H waypoints.
"""

import time

import jax
import torch

from drivemoe_jax import build, flow
from launch import forward
from launch.bench import inputs, pytorch_port

FROZEN = ("embed_tokens", "self_attn.v_proj", "self_attn.o_proj", "mlp.",
          "post_attention_layernorm")


class _Side:
  """Weights, sizes, device; `form` is "eager" or "compiled"."""

  def __init__(self, config, path, threads, form):
    jax.config.update("jax_platforms", "cpu")  # it only draws numbers here
    torch.set_num_threads(threads)
    self.config, self.form = config, form
    self.model = build.model(config)
    self.device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, config.model.dtype)
    self.weights = _tie(
        {k: v.to(self.device, kind) for k, v in forward.tensors(path).items()
         if not k.startswith("criterion.")}, self.model)
    self.may_fail = (Exception,) if form == "compiled" else ()

  def port(self):
    return pytorch_port.Port(self.weights, self.model,
                             masked=self.form == "compiled")

  def finished(self, function):
    return torch.compile(function) if self.form == "compiled" else function

  def move(self, batch):
    return {k: torch.from_numpy(v).to(self.device) for k, v in batch.items()}

  def peak(self):
    return (torch.cuda.max_memory_allocated() if self.device == "cuda"
            else None)

  def clock(self):
    if self.device == "cuda":
      torch.cuda.synchronize()
    return time.perf_counter()


def _tie(weights, model):
  """Proprio layers that are the action stream's, stored once."""
  tied = model.layers - model.moe_layers if model.moe_layers else model.layers
  for name in list(weights):
    stream = "joint_model.mixtures.proprio."
    if name.startswith(stream) and (
        not model.moe_layers or name.startswith(tuple(
            f"{stream}layers.{i}." for i in range(tied)))):
      weights[name] = weights[name.replace("proprio", "action", 1)]
  return weights


class Sampler(_Side):

  def __init__(self, config, path, batches, threads, form):
    super().__init__(config, path, threads, form)
    self.names = {f"batch {b}": b for b in batches}
    self._port = self.port()
    # Compiled one by one: ten steps in one graph take minutes to compile.
    self._port.prefix = self.finished(self._port.prefix)
    self._port.step = self.finished(self._port.step)

  def call(self, name, seed):
    batch = inputs.plan(self.model, self.config, self.names[name], seed)
    start = self.clock()
    with torch.no_grad():
      out = self._port.sample(self.move(batch), self.config.flow.steps,
                              self.config.flow.clip)
    found = {k: v.float().cpu().numpy() for k, v in out.items()
             if v is not None}
    return 1e3 * (self.clock() - start), found


class Update(_Side):
  """Forward, backward, clip and AdamW, on given draws."""

  names = ("update",)

  def __init__(self, config, path, batch, threads, form):
    super().__init__(config, path, threads, form)
    self._batch = batch
    last = f"joint_model.mixtures.vlm.layers.{self.model.layers - 1}."
    frozen = lambda name: name.startswith("embed_tokens") or (
        name.startswith(last) and any(part in name for part in FROZEN))
    trained = {id(w): w for name, w in self.weights.items()
               if not frozen(name)}
    for w in trained.values():
      w.requires_grad_()
    self._trained = list(trained.values())
    self._optimizer = torch.optim.AdamW(
        self._trained, lr=config.optim.min_lr, weight_decay=0.0, fused=True)
    self._loss = self.finished(self._eager_loss)

  def _eager_loss(self, x):
    c = self.config.loss
    alphas = {"camera": c.camera_counts, "skill": c.skill_counts}
    t = x["time"][:, None, None]
    near = 1 - flow.SIGMA_MIN
    out = self.port()(x | {
        "noisy_action": (1 - near * t) * x["noise"] + t * x["action"]})
    target = x["action"] - near * x["noise"]
    loss = c.action * ((out["velocity"] - target) ** 2).mean()
    skill = out["skill_logits"].float().mean(1)
    for logits, name in ((out["camera_logits"].float(), "camera"),
                         (skill, "skill")):
      alpha = 1 / torch.tensor(alphas[name], dtype=torch.float32,
                               device=t.device)
      loss = loss + c[name] * _focal(logits, x[name], alpha / alpha.sum(),
                                     c.gamma)
    return loss

  def call(self, name, seed):
    del name
    batch = inputs.update(self.model, self.config, self._batch, seed)
    batch |= inputs.draws(self.model, self.config, self._batch, seed)
    start = self.clock()
    x = self.move(batch)
    x = x | {k: x[k].long() for k in ("camera", "skill")}
    loss = self._loss(x)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)
    found = {"loss": loss.detach().cpu().numpy(),
             "grad_norm": norm.float().cpu().numpy()}
    return 1e3 * (self.clock() - start), found


def _focal(logits, label, alpha, gamma):
  ce = torch.nn.functional.cross_entropy(logits, label, reduction="none")
  return (alpha[label] * (1 - torch.exp(-ce)) ** gamma * ce).mean()


class Experts(_Side):
  """The last layer's experts."""

  def __init__(self, config, path, batches, threads, form):
    super().__init__(config, path, threads, form)
    self.names = {f"batch {b}, {level}": (b, level) for b in batches
                  for level in ("trajectory", "token")}
    name = f"joint_model.mixtures.action.layers.{self.model.layers - 1}.mlp"
    self._run = {level: self.finished(
        lambda x, logits: self.port().experts(name, x, logits))
        for level in ("trajectory", "token")}

  def call(self, name, seed):
    batch, level = self.names[name]
    x, logits = inputs.tokens(self.model, batch, level, seed)
    start = self.clock()
    moved = self.move({"x": x, "logits": logits})
    with torch.no_grad():
      y = self._run[level](
          moved["x"].to(self.weights["embed_tokens.weight"].dtype),
          moved["logits"]).float().cpu().numpy()
    return 1e3 * (self.clock() - start), {"y": y}
