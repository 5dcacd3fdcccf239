"""The training step: a pure function, jitted over a mesh.

All randomness is folded from (seed, step), and drawn for the whole batch before
it is cut into microbatches: a resumed run, another mesh or more microbatches
see the same numbers. Axes: B samples, A microbatches, H waypoints, V views.
"""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from drivemoe_jax import flow, hosts, losses, optim, sharding
from drivemoe_jax.models import drivemoe

# Else the compiler cuts the product that makes a weight's gradient into a loop
# over the devices, which sends and adds while it multiplies: by its own
# estimate three times slower than the product and a reduction after it.
TPU_OPTIONS = {"xla_tpu_enable_windowed_einsum_for_reduce_scatter": False}

OBSERVATION = ("images", "text", "proprio", "goal")
LABELS = ("camera", "skill")


class TrainState(flax.struct.PyTreeNode):  # pyright: ignore[reportAttributeAccessIssue]
  """Everything that an update changes.

  Attributes:
    step: updates tried so far, [] int32; also the position in the data.
    params: float32 tree. opt_state: of the optax transformation.
    skipped: updates left out because they were not finite, [] int32.
    skipped_in_a_row: those since the last finite one, [] int32.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  skipped: jax.Array
  skipped_in_a_row: jax.Array


# Of a TrainState, what a checkpoint holds beside the parameters.
COUNTERS = ("opt_state", "step", "skipped", "skipped_in_a_row")


def as_items(state, carried):
  """A TrainState and carried weights as the items of a checkpoint."""
  return {"params": state.params, "carried": carried,
          "optimizer": {name: getattr(state, name) for name in COUNTERS}}


def jit_once(function, **kwargs):
  """jax.jit for a program that runs a few times.

  On a CPU, compiling is all that it costs, and optimising most of that.
  """
  cpu = jax.default_backend() == "cpu"
  options = {"xla_backend_optimization_level": 0} if cpu else None
  return jax.jit(function, compiler_options=options, **kwargs)


def example_inputs(model):
  """Zeros of one sample in the shapes that `model.init` wants."""
  s = model.image_size
  return {
      "images": jnp.zeros((1, drivemoe.FRONTS + model.num_views, s, s, 3),
                          jnp.uint8),
      "text": jnp.zeros((1, model.text_len), jnp.int32),
      "proprio": jnp.zeros((1, model.history, model.proprio_dim)),
      "goal": jnp.zeros((1, 2)),
      "noisy_action": jnp.zeros((1, model.horizon, model.action_dim)),
      "time": jnp.zeros((1,)),
  }


def init_params(model, key):
  """Fresh parameters; under jax.eval_shape only their shapes."""
  return model.init({"params": key}, **example_inputs(model))["params"]


@functools.lru_cache(maxsize=8)  # tracing takes a second, and many ask
def param_shapes(model):
  """Tree of ShapeDtypeStruct, to be read only; nothing is computed."""
  return jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))


def new_state(params, tx):
  """State before the first update."""
  zero = lambda: jnp.zeros((), jnp.int32)
  return TrainState(zero(), params, tx.init(params), zero(), zero())


def state_shapes(model, tx):
  """Shapes of a TrainState; nothing is computed."""
  return jax.eval_shape(lambda p: new_state(p, tx), param_shapes(model))


def state_shardings(model, tx, mesh):
  """Where every part of a TrainState lives: a tree like it."""
  return sharding.infer_state(state_shapes(model, tx), param_shapes(model),
                              mesh)


def init_state(model, tx, mesh, seed):
  """Fresh TrainState, made in its shards; equal on every mesh."""
  make = jit_once(lambda key: new_state(init_params(model, key), tx),
                  out_shardings=state_shardings(model, tx, mesh))
  with sharding.activate(mesh):
    return hosts.in_step("the first state", make)(jax.random.key(seed))


def state_from(params, tx, mesh):
  """State before the first update of given parameters, which are copied.

  The step gives its buffers away, and host arrays may be lent to the device.
  """
  shapes = jax.eval_shape(lambda p: new_state(p, tx), params)
  make = jax.jit(lambda p: new_state(jax.tree.map(jnp.copy, p), tx),
                 out_shardings=sharding.infer_state(shapes, params, mesh))
  with sharding.activate(mesh):
    return hosts.in_step("the first state", make)(params)


def draw(key, batch_size, model, time_sampling, sigma_min=flow.SIGMA_MIN):
  """Random part of a batch: time [B], noise [B,H,2], gumbel [B,V], and the
  number of each row [B], which the dropout key is folded with."""
  time, noise, gumbel = jax.random.split(key, 3)
  return {
      "time": flow.sample_time(time, batch_size, time_sampling, sigma_min),
      "noise": jax.random.normal(
          noise, (batch_size, model.horizon, model.action_dim)),
      "gumbel": jax.random.gumbel(gumbel, (batch_size, model.num_views)),
      "row": jnp.arange(batch_size),
  }


def make_loss(model, *, camera_choice, skill_choice, weights, alphas,
              gamma=2.0, skill_loss="mean", sigma_min=flow.SIGMA_MIN,
              clip=1.0):
  """(params, batch with draws, dropout key) -> (loss, metrics).

  Args:
    camera_choice, skill_choice: as in DriveMoE.__call__.
    weights, alphas, gamma, skill_loss: as in losses.total. A label set that
      the batch does not hold drops its term.
    clip: bound of the sampler on a plan; the metrics tell how much of the
      recorded plans (`action_outside`) and of the model's one-step estimates
      of them (`estimate_outside`) lies beyond it.
  """

  def loss(params, batch, key):
    labels = {k: batch[k] if k in batch else None for k in LABELS}
    noisy = flow.interpolate(batch["noise"], batch["action"], batch["time"],
                             sigma_min)
    dropout = None
    if model.camera_dropout > 0:
      dropout = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["row"])
    velocity, out = model.apply(
        {"params": params}, **{k: batch[k] for k in OBSERVATION}, **labels,
        noisy_action=noisy, time=batch["time"], gumbel=batch["gumbel"],
        camera_choice=camera_choice, skill_choice=skill_choice,
        dropout=dropout)
    target = flow.target_velocity(batch["noise"], batch["action"], sigma_min)
    total, metrics = losses.total(
        velocity, target, out, **labels, weights=weights, alphas=alphas,
        gamma=gamma, skill_loss=skill_loss)
    estimate = noisy + (1.0 - batch["time"])[:, None, None] * velocity
    return total, metrics | {
        "action_outside": losses.outside(batch["action"], clip),
        "estimate_outside": losses.outside(estimate, clip)}

  return loss


def split_batch(batch, parts):
  """[B,...] -> [A,B/A,...], every A-th sample together.

  So each device cuts its own rows, and none has to move.
  """
  return jax.tree.map(lambda x: jnp.swapaxes(
      x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)


def gradients(loss, params, batch, key, parts, constrain=lambda grads: grads):
  """Mean gradients and metrics over `parts` microbatches, one at a time.

  Args:
    loss: as from make_loss. batch: arrays [B,...] with draws.
    constrain: keeps the gradients in the shards of their parameters.
  """
  grad = jax.value_and_grad(loss, has_aux=True)
  if parts == 1:
    (_, metrics), grads = grad(params, batch, key)
    return constrain(grads), metrics

  def add(total, piece):
    (_, metrics), grads = grad(params, piece, key)
    return constrain(jax.tree.map(jnp.add, total, grads)), metrics

  zeros = constrain(jax.tree.map(jnp.zeros_like, params))
  total, metrics = jax.lax.scan(add, zeros, split_batch(batch, parts))
  return (jax.tree.map(lambda x: x / parts, total),
          jax.tree.map(lambda x: x.mean(0), metrics))


def make_train_step(model, loss, tx, learning_rate, *, microbatches=1,
                    time_sampling="beta", sigma_min=flow.SIGMA_MIN,
                    freeze_last_value=True, shardings=None):
  """(state, batch, key) -> (state, metrics); not jitted.

  A step whose loss or gradient is not finite changes nothing but the counters.

  Args:
    model, loss, tx: as built.
    learning_rate: update -> rate of the action group, for the log.
    microbatches: A; B must be its multiple.
    time_sampling, sigma_min: as in flow.sample_time.
    freeze_last_value: as given to optim.make; for the reported norm.
    shardings: of the parameters, asked for the gradients too.
  """
  def constrain(grads):
    if shardings is None:
      return grads
    return jax.lax.with_sharding_constraint(grads, shardings)

  def train_step(state, batch, key):
    draws, dropout = jax.random.split(jax.random.fold_in(key, state.step))
    batch = batch | draw(draws, len(batch["action"]), model, time_sampling,
                         sigma_min)
    grads, metrics = gradients(loss, state.params, batch, dropout,
                               microbatches, constrain)
    norm = optax.tree.norm(optim.trained_gradients(grads, freeze_last_value))
    finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    keep = lambda new, old: jnp.where(finite, new, old)
    bad = 1 - finite.astype(jnp.int32)
    metrics |= {"grad_norm": norm,
                "lr": learning_rate(state.step - state.skipped),
                "skipped": state.skipped + bad,
                "skipped_in_a_row": bad * (state.skipped_in_a_row + 1)}
    return TrainState(
        state.step + 1,
        jax.tree.map(keep, optax.apply_updates(state.params, updates),
                     state.params),
        jax.tree.map(keep, opt_state, state.opt_state),
        metrics["skipped"], metrics["skipped_in_a_row"]), metrics

  return train_step


def jit_train_step(train_step, mesh, shardings):
  """Compiles for the mesh; the old state is donated.

  Args:
    shardings: of the TrainState. Call and lower the result inside
      `sharding.activate(mesh)`.
  """
  everywhere = NamedSharding(mesh, P())
  tpu = mesh.devices.flat[0].platform == "tpu"
  return jax.jit(train_step, donate_argnums=0,
                 in_shardings=(shardings, NamedSharding(mesh, sharding.BATCH),
                               everywhere),
                 out_shardings=(shardings, everywhere),
                 compiler_options=TPU_OPTIONS if tpu else None)


def local_rows(mesh, batch_size):
  """This process's rows of a global batch: [r] int, ascending.

  Seldom one stretch: a mesh follows the wires between chips, not the hosts.
  """
  place = NamedSharding(mesh, sharding.BATCH)
  slices = place.addressable_devices_indices_map((batch_size,)).values()
  return np.unique(np.concatenate(
      [np.arange(batch_size)[rows] for rows, in slices]))  # pyright: ignore[reportGeneralTypeIssues]


def put_batch(batch, mesh):
  """Host arrays of this process's rows -> global ones, split over the mesh."""
  place = NamedSharding(mesh, sharding.BATCH)
  return {key: jax.make_array_from_process_local_data(place, narrow(value))
          for key, value in batch.items()}


def narrow(x):
  """64-bit host integers as 32-bit, which is what a device holds."""
  return x.astype(np.int32) if x.dtype == np.int64 else x
