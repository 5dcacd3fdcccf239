"""Our sides of the races: the sampler, the training step, the expert layer.

Each is made from a config's path and the weights both sides read; `call` is
what race.py asks for. Axes: B samples, E experts, K chosen, D width, F hidden.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from drivemoe_jax import build, meshes, sharding
from drivemoe_jax import step as steps
from drivemoe_jax.models import experts, precision, routers, sampling
from drivemoe_jax.plan import shapes
from drivemoe_jax.weights import read
from launch.bench import inputs


def load(config, path):
  """(model, parameters on the device) of an official file.

  A file of the whole model serves one with fewer views as well.
  """
  model = build.model(config)
  like = shapes.serving(model)  # as the file has them: half the bytes
  params = read.load(path, like, allowed=read.Allowed(extra=".*")).params
  return model, jax.tree.map(jnp.asarray, params)


class Sampler:
  """Plans from images on the host to waypoints on the host.

  `apart` hands the layers' weights over one by one and unrolls the layers.
  """

  may_fail = ()

  def __init__(self, config, path, batches, apart=False):
    self._config = config
    self._model, self._params = load(config, path)
    self._model = self._model.clone(remat="none")
    if apart:
      self._model = self._model.clone(unroll=True)
      self._params = layers_apart(self._params)
    self.names = {f"batch {b}": b for b in batches}

    def sample(params, batch):
      return sampling.sample(
          self._model, layers_together(params) if apart else params, **batch,
          steps=config.flow.steps, clip=config.flow.clip)

    self._sample = jax.jit(sample)

  def call(self, name, seed):
    batch = inputs.plan(self._model, self._config, self.names[name], seed)
    start = time.perf_counter()
    action, out = jax.device_get(self._sample(self._params, batch))
    ms = 1e3 * (time.perf_counter() - start)
    logits = ("camera_logits", "skill_logits")
    return ms, {"action": action} | {
        name: out[name] for name in logits if out[name] is not None}

  def peak(self):
    return device_peak()


def layers_apart(params):
  """Stacked leaves [L,...] -> tuples of L leaves."""
  def leaf(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    stacked = "/layers/" in name or "/encoderblock/" in name
    return tuple(x) if stacked else x

  return jax.tree_util.tree_map_with_path(leaf, params)


def layers_together(params):
  """The inverse; the compiler sees through it where layers are unrolled."""
  return jax.tree.map(lambda x: jnp.stack(x) if isinstance(x, tuple) else x,
                      params, is_leaf=lambda x: isinstance(x, tuple))


def device_peak():
  """Most bytes that this process held on its device; None where untold."""
  return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


class Update:
  """Training steps on one device, the state staying there."""

  may_fail = ()
  names = ("update",)

  def __init__(self, config, path, batch):
    self._config, self._path, self._batch = config, path, batch
    self._model, self._state = build.model(config), None
    sizes = {"data": 1, "fsdp": 1, "expert": 1}
    self._mesh = meshes.make_mesh(sizes)
    self._tx, state = shapes.state(config)
    shardings = sharding.infer_state(state, steps.param_shapes(self._model),
                                     self._mesh)
    step = steps.jit_train_step(
        build.train_step(config, self._model, self._tx, sizes,
                         shardings.params), self._mesh, shardings)
    with sharding.activate(self._mesh):
      self._step = step.lower(state, shapes.batch(self._model, batch),
                              shapes.key()).compile()

  def _first_state(self):
    _, params = load(self._config, self._path)
    wide = jax.jit(lambda tree: jax.tree.map(
        lambda x: x.astype(jnp.float32), tree), donate_argnums=0)
    return steps.state_from(wide(params), self._tx, self._mesh)

  def call(self, name, seed):
    del name
    batch = inputs.update(self._model, self._config, self._batch, seed)
    with sharding.activate(self._mesh):
      self._state = self._state or self._first_state()
      start = time.perf_counter()
      self._state, metrics = self._step(
          self._state, steps.put_batch(batch, self._mesh), jax.random.key(0))
      jax.block_until_ready((self._state, metrics))
      ms = 1e3 * (time.perf_counter() - start)
    return ms, {k: metrics[k] for k in ("loss", "grad_norm")}

  def peak(self):
    return device_peak()


def dense(x, weights, gating, linear, active, dtype):
  """All experts on all samples, as ExpertBank trains with few tokens."""
  del active
  return experts.dense(x, weights, gating, linear, dtype)


def side_by_side(x, weights, gating, linear, active, dtype):
  """The same as one wide MLP, as it trains on a CPU with many tokens."""
  del active
  return experts.side_by_side(x, weights, gating, linear, dtype)


def rule(x, weights, gating, linear, active, dtype):
  """What experts.ExpertBank does when a plan is sampled."""
  bank = experts.ExpertBank(gating.shape[0], gating.shape[-1], dtype)
  return bank.apply({"params": {"gating_einsum": gating, "linear": linear}},
                    x, weights, active)


def gather(x, weights, gating, linear, active, dtype):
  """Each sample's chosen experts copied together: B x K of them."""
  share, index = jax.lax.top_k(weights[:, 0], active)    # [B,K]
  one = lambda x, share, index: experts.hidden_layer(
      x[None], gating[index], share[:, None, None], dtype)[:, 0]
  h = jax.vmap(one)(x, share, index)                     # [B,K,T,F]
  return precision.einsum("bktf,bkfd->btd", h, linear[index], dtype=dtype)


def ragged(x, weights, gating, linear, active, dtype):
  """Rows sorted by expert, groups of any length (jax.lax.ragged_dot)."""
  b, t, d = x.shape
  weights = jnp.broadcast_to(weights, (b, t, weights.shape[-1]))
  share, index = jax.lax.top_k(weights.reshape(b * t, -1), active)
  order = jnp.argsort(index.reshape(-1))
  rows = x.reshape(b * t, d)[order // active]            # [BTK,D]
  sizes = jnp.bincount(index.reshape(-1), length=gating.shape[0])
  dot = lambda x, w: jax.lax.ragged_dot(x, w.astype(dtype), sizes)
  h = jax.nn.gelu(dot(rows, gating[:, 0]), approximate=True) * dot(
      rows, gating[:, 1])
  y = dot(h, linear) * share.reshape(-1)[order][:, None]
  return jnp.zeros((b * t, d), y.dtype).at[order // active].add(
      y).reshape(x.shape)


def capacity(x, weights, gating, linear, active, dtype):
  """Slots for as many samples as there are, of which experts take theirs
  first; with fewer slots samples would be dropped, and values differ."""
  del active
  b, t, e = len(x), x.shape[1], gating.shape[0]
  weights = jnp.broadcast_to(weights, (b, t, e)).reshape(b * t, e)
  place = jnp.cumsum(weights > 0, 0) - 1                 # [BT,E]
  into = jax.nn.one_hot(place, b * t, dtype=dtype) * (weights > 0)[..., None]
  slots = jnp.einsum("sec,sd->ecd", into, x.reshape(b * t, -1))
  h = jnp.einsum("ecd,egdf->gecf", slots, gating.astype(dtype))
  h = jax.nn.gelu(h[0], approximate=True) * h[1]
  y = jnp.einsum("ecf,efd->ecd", h, linear.astype(dtype))
  return jnp.einsum("sec,se,ecd->sd", into, weights, y).reshape(x.shape)


def looped(x, weights, gating, linear, active, dtype):
  """Samples one by one, each with its chosen experts."""
  return jax.lax.map(lambda one: experts.chosen(
      one[0][None], one[1][None], gating, linear, active, dtype)[0],
                     (x, weights))


# The last two know one choice for a whole plan only.
PATHS = {"rule": rule, "dense": dense, "side by side": side_by_side,
         "ragged": ragged, "capacity": capacity, "gather": gather,
         "slices, one by one": looped}
WHOLE_PLAN = ("gather", "slices, one by one")


class Experts:
  """One expert layer by batch, router level and way to compute it."""

  may_fail = ()

  def __init__(self, config, path, batches):
    self._model, params = load(config, path)
    layer = params["expert"]["action"]["layers"]["last"]["moe"]
    del params
    self._layer = jax.tree.map(lambda x: x[0].astype(self._model.dtype), layer)
    self._config = config
    self.names = {
        f"batch {b}, {level}, {way}": (b, level, way)
        for b in batches for level in ("trajectory", "token") for way in PATHS
        if level == "trajectory" or way not in WHOLE_PLAN}
    self._programs = {}

  def _program(self, name):
    if name not in self._programs:
      m, way = self._model, PATHS[self.names[name][2]]

      def run(layer, x, logits):
        weights = routers.expert_weights(
            logits, top_k=m.top_k, moe_layers=m.moe_layers,
            shared=m.shared_experts)
        return way(x, weights, layer["gating_einsum"], layer["linear"],
                   m.top_k + m.shared_experts, m.dtype)

      self._programs[name] = jax.jit(run)
    return self._programs[name]

  def call(self, name, seed):
    batch, level, _ = self.names[name]
    x, logits = inputs.tokens(self._model, batch, level, seed)
    program = self._program(name)
    start = time.perf_counter()
    y = np.asarray(program(self._layer, x.astype(self._model.dtype), logits),
                   np.float32)
    return 1e3 * (time.perf_counter() - start), {"y": y}
