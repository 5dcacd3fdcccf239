"""DriveMoE and Drive-pi0 in plain PyTorch, as functions of a state dict.

Written from the description of the model and the official names of its
weights; it shares no code with the JAX model. For comparisons: clear, slow,
float32.

Axes: B samples, I images, N patches, T tokens, D width, H waypoints.
"""

import math

import torch
from torch.nn import functional as F

FRONTS = 2


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
  with torch.no_grad():
    return _Forward(weights, sizes)(
        {k: torch.tensor(v) for k, v in inputs.items()})


class _Forward:

  def __init__(self, weights, sizes):
    self.w, self.s = weights, sizes

  def __call__(self, x):
    vlm, valid, camera = self.look(x)
    time = self.time(x["time"])
    proprio = self.linear("proprio_encoder", x["proprio"])
    action = self.encode_action(x["noisy_action"], time)
    velocity, skill = self.joint(
        {"vlm": vlm, "proprio": proprio, "action": action}, valid, time)
    array = lambda y: None if y is None else y.numpy()
    return {"velocity": array(velocity), "camera_logits": array(camera),
            "skill_logits": array(skill)}

  def linear(self, name, x):
    return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

  def layer_norm(self, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"],
                        self.w[f"{name}.bias"], eps)

  # Images.

  def tower(self, images):                               # [B,S,S,3] -> [B,N,D]
    s, v = self.s, "vision_tower.vision_model"
    x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    patch = f"{v}.embeddings.patch_embedding"
    x = F.conv2d(x, self.w[f"{patch}.weight"], self.w[f"{patch}.bias"],
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
    tokens = [self.tower(images[:, i]) for i in range(FRONTS)]
    logits, view = None, "view_embeddings.weight"
    if s.view == "dynamic":
      logits = self.camera(tokens[0], x["goal"])
      pick = logits.argmax(-1)
      chosen = torch.stack([images[b, FRONTS + i] for b, i in enumerate(pick)])
      tokens.append(self.tower(chosen) + self.w[view][pick][:, None])
    else:
      tokens += [self.tower(images[:, FRONTS + i]) + self.w[view][i]
                 for i in s.view]
    words = self.w["embed_tokens.weight"][text] * (text != 0)[..., None]
    vlm = torch.cat([*tokens, words], 1)
    valid = torch.ones(vlm.shape[:2], dtype=torch.bool)
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

  def time(self, time):                                  # [B] -> [B,W]
    s = self.s
    half = (s.time_width if s.adaptive else s.expert_width) // 2
    f = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
    angle = time[:, None] * f
    return torch.cat([angle.sin(), angle.cos()], -1)

  def encode_action(self, action, time):
    x = self.linear("action_encoder.linear_1", action)
    if not self.s.adaptive:
      x = torch.cat([time[:, None].expand_as(x), x], -1)
    x = F.silu(self.linear("action_encoder.linear_2", x))
    return self.linear("action_encoder.linear_3", x)

  # Joint transformer.

  def rms_norm(self, name, x, condition=None):
    x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.s.rms_norm_eps)
    if f"{name}.weight" in self.w:
      return x * (1 + self.w[f"{name}.weight"])
    gamma = torch.sigmoid(self.linear(f"{name}.to_gamma.0", condition))
    beta = self.linear(f"{name}.to_beta", condition)
    return x * gamma[:, None] + beta[:, None]

  def joint(self, x, valid, time):
    """Velocity [B,H,2] and skill logits."""
    s = self.s
    x = {name: y * y.shape[-1] ** 0.5 for name, y in x.items()}
    sizes = [y.shape[1] for y in x.values()]
    block = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    real = F.pad(valid, (0, sum(sizes[1:])), value=True)
    allowed = (block[:, None] >= block) & real[:, None] & real[:, :, None]
    places = {"vlm": 1 + torch.arange(sizes[0]),
              "proprio": 1 + torch.arange(sizes[1]),
              "action": 1 + sizes[1] + torch.arange(sizes[2])}
    logits = None
    for i in range(s.layers):
      layers = {n: f"joint_model.mixtures.{n}.layers.{i}" for n in x}
      q, k, v = (torch.cat(p, 2) for p in zip(*(
          self.project(layers[n], x[n], places[n], time) for n in x)))
      k, v = (y.repeat_interleave(s.heads // s.kv_heads, 1) for y in (k, v))
      score = q @ k.transpose(2, 3) / s.head_dim ** 0.5
      if s.softcap:
        score = s.softcap * torch.tanh(score / s.softcap)
      score = score.masked_fill(~allowed[:, None], torch.finfo().min)
      seen = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
      for name, part in zip(x, seen.split(sizes, 1)):
        if name == "vlm" and i == s.layers - 1:
          continue
        x[name], n = self.attended(layers[name], x[name], part, time)
        if name == "action" and i == s.layers - s.moe_layers - 1 and (
            s.moe_layers):
          logits = self.route(n)
        y = self.feed_forward(layers[name], n, logits)
        x[name] = x[name] + self.scale(layers[name], "final", y, time)
    end = self.rms_norm("joint_model.mixtures.action.norm", x["action"], time)
    return self.linear("action_decoder", end), logits

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
    s = self.s
    best, which = logits.softmax(-1).topk(s.top_k, -1)   # [B,R,K]
    best = best / best.sum(-1, keepdim=True)
    y = sum(self.mlp(f"{layer}.mlp.shared_experts.{j}", x)
            for j in range(s.shared_experts))
    for e in range(s.skill_experts):
      share = (best * (which == e)).sum(-1)[..., None]   # [B,R,1]
      y = y + share * self.mlp(f"{layer}.mlp.skill_experts.{e}", x)
    return y


def _attend(q, k, v, heads):
  """Plain multi-head attention of fused heads: [B,T,D] -> [B,T,D]."""
  q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
  p = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
  return (p @ v).transpose(1, 2).flatten(2)


def _rope(x, places, base):                              # [B,N,T,H]
  half = x.shape[-1] // 2
  angle = places[:, None] * base ** (-torch.arange(half) / half)
  cos, sin = angle.cos(), angle.sin()
  a, b = x[..., :half], x[..., half:]
  return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
