"""DriveMoE: camera views and ego history to a driving plan by flow matching.

    images --SigLIP--> front, front before, chosen view | text     vlm stream
    ego history ------------------------------------------------ proprio stream
    noisy plan, time ------------------------------------------- action stream
    the streams attend together; the action stream ends as a velocity

The camera router picks one of the candidate views from the front image and
the goal; the skill router picks the experts of the last layers. Drive-pi0 is
the same class without experts and without a third view.

Axes: B samples, I images, S pixels, N patches, V views, T vlm tokens,
P history, H waypoints, D vlm width, A expert width, C condition width.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from drivemoe_jax.models import checks, joint, masks, parts, routers, siglip

CAMERA_CHOICES = ("label", "straight_through", "argmax")
SKILL_CHOICES = ("router", "label")
FRONTS = 2  # front and front one frame earlier lead the images


class DriveMoE(nn.Module):
  """The model. `__call__` gives a velocity, `sampling.sample` a plan.

  Attributes beyond sizes:
    moe_layers: last layers with experts; 0 is Drive-pi0.
    view: "dynamic" (the camera router picks one) or a tuple of fixed view
      ids, () for the front camera alone (the rows of the paper's Table 3).
    routing: "trajectory" or "token" (same parameters).
    expert_exchange: how tokens reach other devices' experts; see ExpertBank.
    adaptive: None, "adaLN" or "adaLN-Zero" experts, conditioned on the time
      embedding of `time_width`.
    view_embedding_index: "argmax" names the view by the router's favourite
      even where another one was sampled (as released), "sample" by the sample.
    vision_stem: "patch" (as released) or "conv", for a tower that is trained
      from nothing; see siglip.ConvStem.
    softcap: attention logits are capped for every stream, although PaliGemma
      was trained without (as released); 0 switches it off.
    unroll: layers one after the other in the program, in place of loops.
  """

  vision_width: int
  vision_layers: int
  vision_heads: int
  vision_mlp: int
  image_size: int
  patch_size: int
  vlm_width: int
  vlm_mlp: int
  expert_width: int
  expert_mlp: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  moe_layers: int
  skill_experts: int
  shared_experts: int
  top_k: int
  vocab_size: int
  text_len: int
  num_views: int = 5
  view: str | tuple[int, ...] = "dynamic"
  camera_heads: int = 8
  camera_hidden: int = 128
  camera_dropout: float = 0.1
  view_embedding_index: str = "argmax"
  history: int = 5
  horizon: int = 10
  proprio_dim: int = 10
  action_dim: int = 2
  routing: str = "trajectory"
  expert_exchange: str = "constraint"
  adaptive: str | None = None
  time_width: int = 256
  vision_stem: str = "patch"
  vision_norm_eps: float = 1e-6
  rms_norm_eps: float = 1e-6
  rope_theta: float = 10000.0
  softcap: float = 50.0
  dtype: jnp.dtype = jnp.float32
  remat: str = "none"
  unroll: bool = False

  @property
  def tokens(self):
    """Length of the vlm stream: image tokens, then text."""
    views = 1 if self.view == "dynamic" else len(self.view)
    patches = (self.image_size // self.patch_size) ** 2
    return (FRONTS + views) * patches + self.text_len

  def setup(self):
    self.check()
    names = tuple(joint.groups(self.layers, self.moe_layers))
    common = {k: getattr(self, k) for k in (
        "heads", "kv_heads", "head_dim", "rope_theta", "dtype")}
    common["norm_eps"] = self.rms_norm_eps
    vlm = common | dict(width=self.vlm_width, hidden=self.vlm_mlp,
                        adaptive=None)
    expert = common | dict(width=self.expert_width, hidden=self.expert_mlp,
                           adaptive=self.adaptive,
                           expert_exchange=self.expert_exchange)
    dynamic = self.view == "dynamic"
    self.img = siglip.Siglip(
        self.vision_width, self.vision_layers, self.vision_heads,
        self.vision_mlp, self.image_size, self.patch_size, self.vlm_width,
        self.vision_norm_eps, self.dtype, self.remat, self.unroll,
        self.vision_stem)
    self.llm = parts.Gemma(self.vocab_size, names, vlm)
    self.expert = parts.Expert(self.moe_layers, names, expert,
                         self.skill_experts + self.shared_experts)
    self.router = parts.Routers(
        dict(num_views=self.num_views, heads=self.camera_heads,
             hidden=self.camera_hidden, dropout=self.camera_dropout)
        if dynamic else None,
        dict(experts=self.skill_experts, routing=self.routing)
        if self.moe_layers else None)
    self.io = parts.Io(self.expert_width, self.action_dim, self.dtype)
    if dynamic or self.view:
      self.view_embedding = self.param(
          "view_embedding", nn.initializers.normal(self.vlm_width ** -0.5),
          (self.num_views, self.vlm_width))
    self.joint = joint.JointTransformer(
        self.layers, self.moe_layers, self.llm.layers,
        self.expert.stream("proprio")[0], self.expert.stream("action")[0],
        self.router.skill if self.moe_layers else None, self.top_k,
        self.shared_experts, self.softcap, self.remat, self.unroll)

  @nn.nowrap
  def check(self):
    """Raises ValueError where sizes contradict each other."""
    checks.check(self)

  def __call__(self, *, images, text, proprio, goal, noisy_action, time,
               camera_choice="argmax", skill_choice="router", camera=None,
               skill=None, gumbel=None, dropout=None):
    """Velocity of a noisy plan, as in training.

    Args:
      images: [B,I,S,S,3] uint8, or float in [-1,1]: front, front one frame
        earlier, then the candidate views.
      text: [B,text_len] int prompt ids, 0 is padding.
      proprio: [B,P,10], goal: [B,2], normalised.
      noisy_action: [B,H,2]. time: [B].
      camera_choice: "label" (needs `camera` [B]), "straight_through" (needs
        `gumbel` [B,V]; every view is encoded) or "argmax".
      skill_choice: "router", or "label" (needs `skill` [B]).
      dropout: [B] keys for the camera router's; None for none.

    Returns:
      velocity [B,H,2] float32 and out: `camera_logits` [B,V], `view` one-hot
      [B,V], `skill_logits` [B,R,E], `skill_weights` [B,R,E+shared]; None where
      the model has no such router.
    """
    vlm, valid, seen = self.look(
        images, text, goal, camera_choice=camera_choice, camera=camera,
        gumbel=gumbel, dropout=dropout)
    velocity, out, _ = self.velocity(
        vlm, valid, proprio, noisy_action, time,
        skill=_skill_label(skill_choice, skill) if self.moe_layers else None)
    return velocity, seen | out

  def encode(self, images):
    """[B,I,S,S,3] -> [B,I,N,D] in trunk scale, all in one pass.

    The release divides image tokens by sqrt(D) and later multiplies every
    stream by it: both are left out, so that bfloat16 rounds neither.
    """
    b, i = images.shape[:2]
    tokens = self.img(images.reshape(b * i, *images.shape[2:]))
    return tokens.reshape(b, i, *tokens.shape[1:])

  def look(self, images, text, goal, *, camera_choice="argmax", camera=None,
           gumbel=None, dropout=None):
    """Chooses views: vlm stream [B,T,D], valid [B,T] bool, router output."""
    out = {"camera_logits": None, "view": None}
    if self.view == "dynamic":
      tokens, out = self._look_around(images, goal, camera_choice, camera,
                                      gumbel, dropout)
    else:
      picked = np.array([*range(FRONTS), *(FRONTS + v for v in self.view)])
      tokens = self.encode(images[:, picked])
      if self.view:
        name = self._view_name(jnp.eye(self.num_views)[np.array(self.view)])
        tokens = tokens.at[:, FRONTS:].add(name[:, None].astype(tokens.dtype))
    b, i, n, d = tokens.shape
    words = self.llm.embedder(text)                      # [B,text_len,D]
    vlm = jnp.concatenate([tokens.reshape(b, i * n, d), words], axis=1)
    valid = jnp.pad(text != 0, ((0, 0), (i * n, 0)), constant_values=True)
    self.sow("intermediates", "vlm_tokens", vlm)
    return nn.with_logical_constraint(vlm, ("batch", None, None)), valid, out

  def _look_around(self, images, goal, choice, camera, gumbel, dropout):
    """Tokens of the fronts and of one chosen view: [B,3,N,D], router output."""
    def route(front):
      # The router reads image tokens as the release scales them.
      return self.router.camera(front * self.vlm_width ** -0.5, goal, dropout)

    if choice == "label":
      _need(camera, "camera_choice='label'", "camera")
      view = routers.choose_view(jnp.zeros((len(images), self.num_views)),
                                 label=camera)
      tokens = self.encode(_with_view(images, camera))
      logits = route(tokens[:, 0])
      name = view
    elif choice == "straight_through":
      _need(gumbel, "camera_choice='straight_through'", "gumbel")
      every = self.encode(images)                        # [B,2+V,N,D]
      logits = route(every[:, 0])
      view = routers.choose_view(logits, gumbel=gumbel)
      seen = jnp.einsum("bv,bvnd->bnd", view.astype(every.dtype),
                        every[:, FRONTS:])
      tokens = jnp.concatenate([every[:, :FRONTS], seen[:, None]], axis=1)
      name = (view if self.view_embedding_index == "sample"
              else routers.choose_view(logits))
    elif choice == "argmax":
      fronts = self.encode(images[:, :FRONTS])
      logits = route(fronts[:, 0])
      name = view = routers.choose_view(logits)
      seen = self.encode(_with_view(images, logits.argmax(-1))[:, FRONTS:])
      tokens = jnp.concatenate([fronts, seen], axis=1)
    else:
      raise ValueError(f"camera_choice {choice!r}; known: {CAMERA_CHOICES}")
    name = self._view_name(name)[:, None].astype(tokens.dtype)
    tokens = tokens.at[:, FRONTS].add(name)
    return tokens, {"camera_logits": logits, "view": view}

  def _view_name(self, view):
    """Rows of the view embedding in trunk scale: [...,V] -> [...,D]."""
    return (view @ self.view_embedding) * self.vlm_width ** 0.5

  def velocity(self, vlm, valid, proprio, noisy_action, time, *, skill=None,
               cached=(), cache=None):
    """Velocity [B,H,2] of a noisy plan, given the vlm stream or its cache.

    Args:
      vlm: [B,T,D]. valid: [B,T]. skill: [B] labels or None.
      cached: streams whose keys and values come from `cache` (see `prefill`).
    """
    condition, joined = self._time(time)
    tokens = self.io.action_in(noisy_action.astype(jnp.float32), joined)
    self.sow("intermediates", "action_tokens", tokens)
    streams, out, _ = self._run(
        {"vlm": vlm, "proprio": self.io.proprio_in(proprio), "action": tokens},
        valid, condition, skip=cached, cache=cache, skill=skill)
    action = self.expert.stream("action")[1](streams["action"], condition)
    if "proprio" in streams:  # unused, but its norm is part of the checkpoint
      self.expert.stream("proprio")[1](streams["proprio"], condition)
    return self.io.action_out(action), out, streams

  def prefill(self, vlm, valid, proprio, cached):
    """Keys and values of the streams in `cached`, which do not see the plan."""
    condition, _ = self._time(jnp.zeros(len(vlm)))
    _, _, cache = self._run(
        {"vlm": vlm, "proprio": self.io.proprio_in(proprio)}, valid, condition,
        skip=tuple(s for s in masks.STREAMS if s not in cached),
        keep_cache=True)
    return cache

  def _time(self, time):
    """Time as the condition of adaptive norms, or as what joins the plan."""
    width = self.time_width if self.adaptive else self.expert_width
    embedded = parts.time_embedding(time.astype(jnp.float32), width)
    self.sow("intermediates", "time", embedded)
    return (embedded, None) if self.adaptive else (None, embedded)

  def _run(self, streams, valid, condition, *, skip=(), **kwargs):
    """Scales the streams that are not skipped and runs them."""
    length = {"vlm": valid.shape[1], "proprio": self.history,
              "action": self.horizon}
    running = [s for s in masks.STREAMS if s not in skip]
    # Keys are everything up to the last running stream, cached or not.
    keys = masks.STREAMS[:masks.STREAMS.index(running[-1]) + 1]
    stop = sum(length[s] for s in keys)
    start = stop - sum(length[s] for s in running)
    mask = masks.allowed(valid, self.history, self.horizon)
    positions = masks.positions(*length.values())
    scale = self.expert_width ** 0.5  # the vlm stream has its own already
    streams = {s: streams[s] * (1.0 if s == "vlm" else scale) for s in running}
    return self.joint(streams, mask[:, start:stop, :stop], positions,
                      condition, **kwargs)


def _skill_label(choice, skill):
  if choice == "router":
    return None
  if choice == "label":
    _need(skill, "skill_choice='label'", "skill")
    return skill
  raise ValueError(f"skill_choice {choice!r}; known: {SKILL_CHOICES}")


def _need(value, where, name):
  if value is None:
    raise ValueError(f"{where} needs `{name}`")


def _with_view(images, view):
  """Fronts and one view each: [B,2+V,S,S,3], [B] -> [B,3,S,S,3]."""
  index = (view + FRONTS)[:, None, None, None, None]
  chosen = jnp.take_along_axis(images, index, axis=1)
  return jnp.concatenate([images[:, :FRONTS], chosen], axis=1)
