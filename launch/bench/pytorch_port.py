"""DriveMoE and Drive-pi0 in plain PyTorch, as functions of a state dict.

Written from the description of the model and the official names of its
weights; it shares no code with the JAX model, so that one can be held against
the other, in values and in speed.

It works as the release is described to: images in two passes, a prefix whose
keys and values are kept and concatenated with the plan's at every step, kv
heads repeated before the product, scores as whole arrays with an additive mask
and a float32 softmax (a soft cap rules out PyTorch's fused attention), skill
experts in a loop, each on the samples that chose it, an expert without any
left out, so that it has no gradient. Two things are better than there: the
tied layers are stored once, and the optimiser is PyTorch's fused AdamW.

Axes: B samples, I images, N patches, T tokens, D width, H waypoints.
"""

import math

import torch
from torch.nn import functional as F

FRONTS = 2
STREAMS = ("vlm", "proprio", "action")


def forward(weights, sizes, inputs):
  """One velocity.

  Args:
    weights: {official key: float32 tensor}.
    sizes: anything with the attributes of the JAX model.
    inputs: arrays images [B,I,S,S,3] uint8, text, proprio, goal, time,
      noisy_action.

  Returns:
    {"velocity", "camera_logits", "skill_logits"} as arrays, None where the
    model has no such router.
  """
  array = lambda y: None if y is None else y.numpy()
  with torch.no_grad():
    found = Port(weights, sizes)(
        {k: torch.tensor(v) for k, v in inputs.items()})
  return {name: array(y) for name, y in found.items()}


class Port:
  """The model; what it computes lies where the weights lie, in their type.

  `masked` computes every expert on every sample and weighs it, which a
  compiler can follow where it cannot follow a loop over those that were
  chosen.
  """

  def __init__(self, weights, sizes, masked=False):
    self.w, self.s, self.masked = weights, sizes, masked

  def __call__(self, x):
    """A velocity; with `camera` in the inputs, that view is looked at."""
    vlm, valid, camera = self.look(x)
    time = self.time(x["time"])
    streams = {"vlm": vlm, "proprio": self.history(x),
               "action": self.encode_action(x["noisy_action"], time)}
    streams, skill, _ = self.joint(streams, valid, time)
    return {"velocity": self.decode(streams["action"], time),
            "camera_logits": camera, "skill_logits": skill}

  def sample(self, x, steps=10, clip=1.0):
    """{"action" [B,H,2], "camera_logits", "skill_logits"} of noise [B,H,2]."""
    camera, valid, cache = self.prefix(x)
    plan, skill = x["noise"], None
    for i in range(steps):
      time = torch.full((len(plan),), i / steps, device=plan.device)
      velocity, skill = self.step(plan, time, valid, cache)
      plan = plan + velocity / steps
    return {"action": plan.clamp(-clip, clip), "camera_logits": camera,
            "skill_logits": skill}

  def prefix(self, x):
    """Camera logits, valid [B,T], keys and values of what is seen."""
    vlm, valid, camera = self.look(x)
    _, _, cache = self.joint({"vlm": vlm, "proprio": self.history(x)}, valid,
                             None)
    return camera, valid, cache

  def step(self, plan, time, valid, cache):
    """Velocity [B,H,2] and skill logits."""
    time = self.time(time)
    streams, skill, _ = self.joint(
        {"action": self.encode_action(plan, time)}, valid, time, cache)
    return self.decode(streams["action"], time), skill

  def linear(self, name, x):
    w = self.w[f"{name}.weight"]
    return F.linear(x.to(w.dtype), w, self.w.get(f"{name}.bias"))

  def layer_norm(self, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"],
                        self.w[f"{name}.bias"], eps)

  # Images.

  def tower(self, images):                               # [B,S,S,3] -> [B,N,D]
    s, v = self.s, "vision_tower.vision_model"
    patch = f"{v}.embeddings.patch_embedding"
    x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    w = self.w[f"{patch}.weight"]
    x = F.conv2d(x.to(w.dtype), w, self.w[f"{patch}.bias"],
                 stride=s.patch_size)
    x = x.flatten(2).transpose(1, 2)
    x = x + self.w[f"{v}.embeddings.position_embedding.weight"]
    for i in range(s.vision_layers):
      layer = f"{v}.encoder.layers.{i}"
      n = self.layer_norm(f"{layer}.layer_norm1", x, s.vision_norm_eps)
      q, k, u = (self.linear(f"{layer}.self_attn.{p}_proj", n)
                 for p in "qkv")
      x = x + self.linear(f"{layer}.self_attn.out_proj",
                          _attend(q, k, u, s.vision_heads))
      n = self.layer_norm(f"{layer}.layer_norm2", x, s.vision_norm_eps)
      n = F.gelu(self.linear(f"{layer}.mlp.fc1", n), approximate="tanh")
      x = x + self.linear(f"{layer}.mlp.fc2", n)
    x = self.layer_norm(f"{v}.post_layernorm", x, s.vision_norm_eps)
    return self.linear("multi_modal_projector.linear", x) / s.vlm_width ** 0.5

  def look(self, x):
    """vlm stream [B,T,D], valid [B,T], camera logits or None."""
    images, text, s = x["images"], x["text"], self.s
    fronts = self.tower(images[:, :FRONTS].flatten(0, 1)).unflatten(
        0, (-1, FRONTS))                                 # [B,2,N,D]
    tokens, logits = list(fronts.unbind(1)), None
    view = self.w.get("view_embeddings.weight")
    if s.view == "dynamic":
      logits = self.camera(tokens[0], x["goal"])
      pick = x["camera"] if "camera" in x else logits.argmax(-1)
      rows = torch.arange(len(pick), device=pick.device)
      chosen = images[rows, FRONTS + pick]
      tokens.append(self.tower(chosen) + view[pick][:, None])
    else:
      tokens += [self.tower(images[:, FRONTS + i]) + view[i] for i in s.view]
    words = self.w["embed_tokens.weight"][text] * (text != 0)[..., None]
    vlm = torch.cat([*tokens, words], 1)
    valid = torch.ones(vlm.shape[:2], dtype=torch.bool, device=vlm.device)
    valid[:, -text.shape[1]:] = text != 0
    return vlm, valid, logits

  def camera(self, front, goal):                         # [B,N,D] -> [B,V]
    r = "camera_router"
    way = F.relu(self.linear(f"{r}.waypoint_projector.0", goal))
    way = self.linear(f"{r}.waypoint_projector.2", way)
    kv = torch.cat([way[:, None], front], 1)
    query = self.w[f"{r}.router_query"].expand(len(front), -1, -1)
    inw = self.w[f"{r}.cross_attn.in_proj_weight"].chunk(3)
    inb = self.w[f"{r}.cross_attn.in_proj_bias"].chunk(3)
    q, k, v = (F.linear(x, a, b)
               for x, a, b in zip((query, kv, kv), inw, inb))
    y = self.linear(f"{r}.cross_attn.out_proj",
                    _attend(q, k, v, self.s.camera_heads))
    y = self.layer_norm(f"{r}.ln", y[:, 0], 1e-5)
    return self.linear(f"{r}.mlp.3", F.relu(self.linear(f"{r}.mlp.0", y)))

  # Plans.

  def history(self, x):
    return self.linear("proprio_encoder", x["proprio"])

  def time(self, time):                                  # [B] -> [B,W]
    s = self.s
    half = (s.time_width if s.adaptive else s.expert_width) // 2
    f = torch.exp(torch.arange(half, device=time.device)
                  * (-math.log(10000.0) / (half - 1)))
    angle = time[:, None] * f
    return torch.cat([angle.sin(), angle.cos()], -1)

  def encode_action(self, action, time):
    x = self.linear("action_encoder.linear_1", action)
    if not self.s.adaptive:
      x = torch.cat([time[:, None].expand_as(x).to(x.dtype), x], -1)
    x = F.silu(self.linear("action_encoder.linear_2", x))
    return self.linear("action_encoder.linear_3", x)

  def decode(self, action, time):
    end = self.rms_norm("joint_model.mixtures.action.norm", action, time)
    return self.linear("action_decoder", end).float()

  # Joint transformer.

  def rms_norm(self, name, x, condition=None):
    wide = x.float()
    wide = wide * torch.rsqrt(
        (wide * wide).mean(-1, keepdim=True) + self.s.rms_norm_eps)
    if f"{name}.weight" in self.w:
      return (wide * (1 + self.w[f"{name}.weight"].float())).to(x.dtype)
    gamma = torch.sigmoid(self.linear(f"{name}.to_gamma.0", condition))
    beta = self.linear(f"{name}.to_beta", condition)
    return (wide * gamma[:, None] + beta[:, None]).to(x.dtype)

  def layout(self, valid, running):
    """Additive mask [B,1,T,S] of the running streams and their positions."""
    s, at = self.s, valid.device
    sizes = {"vlm": valid.shape[1], "proprio": s.history, "action": s.horizon}
    count = lambda n, start=1: start + torch.arange(n, device=at)
    places = {"vlm": count(sizes["vlm"]), "proprio": count(sizes["proprio"]),
              "action": count(sizes["action"], 1 + sizes["proprio"])}
    sizes = {n: sizes[n] for n in STREAMS[:1 + STREAMS.index(running[-1])]}
    block = torch.cat([torch.full((n,), i, device=at)
                       for i, n in enumerate(sizes.values())])
    real = F.pad(valid, (0, sum(sizes.values()) - valid.shape[1]), value=True)
    allowed = (block[:, None] >= block) & real[:, None, :] & real[:, :, None]
    rows = sum(sizes[n] for n in running)
    mask = torch.zeros_like(allowed[:, -rows:], dtype=torch.float32)
    mask = mask.masked_fill(~allowed[:, -rows:], torch.finfo().min)
    return mask[:, None], places

  def joint(self, x, valid, time, cache=None):
    """Streams before their last norm, skill logits, keys and values."""
    s, logits, kept = self.s, None, []
    x = {name: y * y.shape[-1] ** 0.5 for name, y in x.items()}
    sizes = [y.shape[1] for y in x.values()]
    mask, places = self.layout(valid, list(x))
    for i in range(s.layers):
      layers = {n: f"joint_model.mixtures.{n}.layers.{i}" for n in x}
      q, k, v = (torch.cat(p, 2) for p in zip(*(
          self.project(layers[n], x[n], places[n], time) for n in x)))
      kept.append((k, v))
      if cache is not None:
        k, v = (torch.cat(p, 2) for p in zip(cache[i], (k, v)))
      k, v = (y.repeat_interleave(s.heads // s.kv_heads, 1) for y in (k, v))
      score = q @ k.transpose(2, 3) / s.head_dim ** 0.5
      if s.softcap:
        score = s.softcap * torch.tanh(score / s.softcap)
      p = (score + mask).softmax(-1, dtype=torch.float32).to(v.dtype)
      seen = (p @ v).transpose(1, 2).flatten(2)
      for name, part in zip(list(x), seen.split(sizes, 1)):
        if name == "vlm" and i == s.layers - 1:
          continue
        x[name], n = self.attended(layers[name], x[name], part, time)
        if name == "action" and i == s.layers - s.moe_layers - 1 and (
            s.moe_layers):
          logits = self.route(n)
        y = self.feed_forward(layers[name], n, logits)
        x[name] = x[name] + self.scale(layers[name], "final", y, time)
    return x, logits, kept

  def project(self, layer, x, places, time):
    s = self.s
    n = self.rms_norm(f"{layer}.input_layernorm", x, time)
    q, k, v = (self.linear(f"{layer}.self_attn.{p}_proj", n).unflatten(
        -1, (-1, s.head_dim)).transpose(1, 2) for p in "qkv")
    return _rope(q, places, s.rope_theta), _rope(k, places, s.rope_theta), v

  def scale(self, layer, which, y, time):
    name = f"{layer}.{which}_adaptive_scale.to_adaln_zero_gamma"
    if f"{name}.weight" not in self.w:
      return y
    return y * torch.sigmoid(self.linear(name, time))[:, None]

  def attended(self, layer, x, seen, time):
    y = self.linear(f"{layer}.self_attn.o_proj", seen)
    x = x + self.scale(layer, "post", y, time)
    return x, self.rms_norm(f"{layer}.post_attention_layernorm", x, time)

  def route(self, x):                                    # [B,H,D] -> [B,R,E]
    r = "joint_model.action_router"
    logits = self.linear(f"{r}.router_linear", x) / self.w[
        f"{r}.temperature"].abs()
    token = self.s.routing == "token"
    return logits if token else logits.mean(1, keepdim=True)

  def mlp(self, name, x):
    gate = F.gelu(self.linear(f"{name}.gate_proj", x), approximate="tanh")
    return self.linear(f"{name}.down_proj",
                       gate * self.linear(f"{name}.up_proj", x))

  def feed_forward(self, layer, x, logits):
    if f"{layer}.mlp.gate_proj.weight" in self.w:
      return self.mlp(f"{layer}.mlp", x)
    return self.experts(f"{layer}.mlp", x, logits)

  def experts(self, name, x, logits):
    """Weighted sum of the chosen experts: [B,H,D], [B,R,E] -> [B,H,D]."""
    s = self.s
    best, which = logits.softmax(-1, dtype=torch.float32).topk(s.top_k, -1)
    best = _scale_gradient(best / best.sum(-1, keepdim=True),
                           1 / max(s.moe_layers, 1))     # [B,R,K]
    y = sum((self.mlp(f"{name}.shared_experts.{j}", x)
             for j in range(s.shared_experts)), torch.zeros_like(x))
    for e in range(s.skill_experts):
      share = (best * (which == e)).sum(-1)[..., None].to(x.dtype)  # [B,R,1]
      expert = f"{name}.skill_experts.{e}"
      if self.masked:
        y = y + share * self.mlp(expert, x)
        continue
      share = share.expand(-1, x.shape[1], -1)
      at = (which == e).any(-1).expand(x.shape[:2]).nonzero(as_tuple=True)
      if len(at[0]):
        y = y.index_put(at, share[at] * self.mlp(expert, x[at]),
                        accumulate=True)
    return y


def _scale_gradient(x, scale):
  return x * scale + (x * (1 - scale)).detach()


def _attend(q, k, v, heads):
  """Plain multi-head attention of fused heads: [B,T,D] -> [B,T,D]."""
  q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
  score = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
  p = score.softmax(-1, dtype=torch.float32).to(v.dtype)
  return (p @ v).transpose(1, 2).flatten(2)


def _rope(x, places, base):                              # [B,N,T,H]
  half = x.shape[-1] // 2
  angle = places[:, None] * base ** (
      -torch.arange(half, device=x.device) / half)
  cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
  a, b = x[..., :half], x[..., half:]
  return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
