"""Drivers without eyes, which a camera model has to beat.

Constant velocity goes straight on at the present speed. The ego-only MLP is
AD-MLP's idea: past ego states and the navigation point, no image, trained on
the same windows as the model; on ordinary driving it is hard to beat.
Axes: M windows, F features, H steps of 0.1 s, 2 = (forward, right) metres.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

HZ = 10
HIDDEN = (128, 128)
BATCH = 512
PEAK_RATE = 2e-3
WEIGHT_DECAY = 1.0  # decoupled; 1 beat 0.001 to 0.3 on held-out train routes
ROUNDS, ROUND_STEPS, PATIENCE = 40, 100, 10
HELD_OUT_EVERY = 8  # one route in eight decides when to stop

DEFINITIONS = {
    "constant_velocity": "straight ahead at the present speed",
    "ego_mlp": "a multilayer perceptron on the proprioception history and "
               "the navigation point, no image; fitted to the train windows, "
               "stopped on held-out train routes",
}


def constant_velocity(speed, horizon):
  """Straight ahead at the present speed: [M] m/s -> [M,H,2] metres."""
  time = np.arange(horizon) / HZ                         # [H] s
  forward = np.asarray(speed, np.float64)[:, None] * time  # [M,H]
  return np.stack([forward, np.zeros_like(forward)], -1)


def ego(windows):
  """What the blind MLP sees: [M,P,10] and [M,2] -> [M,P*10+2].

  Raw units: it standardises its inputs, so percentiles would change nothing.
  """
  flat = windows.proprio.reshape(len(windows.proprio), -1)
  return np.concatenate([flat, windows.goal], 1)


def surprise(windows):
  """How far the blind MLP, fitted to them, is off each plan: [M] metres."""
  features = ego(windows)
  predict, _ = fit_ego_mlp(features, windows.action, windows.route_index)
  return np.linalg.norm(predict(features) - windows.action, axis=-1).mean(1)


def fit_ego_mlp(features, action, route, *, seed=0):
  """Trains the blind MLP on squared distance, Adam, early stop.

  Inputs and outputs are standardised, so raw and normalised features give the
  same MLP.

  Args:
    features: [M,F] what the car knows of itself and where to go.
    action: [M,H,2] driven waypoints in metres.
    route: [M] route ids; whole routes are held out for the early stop.
    seed: initial weights and batches; the same seed gives the same MLP.

  Returns:
    (predict: [N,F] -> [N,H,2] metres, {train_windows, steps, ...}).
  """
  inputs = _Standard.of(np.asarray(features, np.float32))
  x = inputs.forward(features)                           # [M,F]
  y = np.asarray(action, np.float32).reshape(len(action), -1)  # [M,2H]
  held = np.isin(route, np.unique(route)[::HELD_OUT_EVERY])
  if held.all():  # a single route: nothing to hold out
    held[:] = False
  outputs = _Standard.of(y)
  y = outputs.forward(y)
  check = held if held.any() else ~held
  params, steps = _train(
      x[~held], y[~held], x[check], y[check], outputs.scale, seed)

  def predict(features):
    x = inputs.forward(np.asarray(features, np.float32))
    plan = outputs.backward(np.asarray(_network(params, x)))
    return plan.reshape(-1, *action.shape[1:])

  return predict, {"train_windows": int((~held).sum()),
                   "held_out_windows": int(held.sum()), "steps": steps}


def _train(x, y, x_check, y_check, weight, seed):
  """Adam in rounds; keeps the round that does best on the check windows."""
  sizes = (x.shape[1], *HIDDEN, y.shape[1])
  key, init_key = jax.random.split(jax.random.key(seed))
  keys = jax.random.split(init_key, len(sizes) - 1)
  params = [
      (jax.random.normal(k, (a, b)) * np.sqrt(2 / a), jnp.zeros(b))
      for k, a, b in zip(keys, sizes[:-1], sizes[1:])]
  optimizer = optax.adamw(
      optax.cosine_decay_schedule(PEAK_RATE, ROUNDS * ROUND_STEPS),
      weight_decay=WEIGHT_DECAY)
  opt_state = optimizer.init(params)
  data = tuple(jnp.asarray(a) for a in (x, y, weight))
  best, best_params, best_round = np.inf, params, 0
  for index in range(ROUNDS):
    params, opt_state = _round(
        params, opt_state, jax.random.fold_in(key, index), data,
        update=optimizer.update)
    error = float(_loss(params, x_check, y_check, weight))
    if error < best:
      best, best_params, best_round = error, params, index
    elif index - best_round >= PATIENCE:
      break
  return best_params, (best_round + 1) * ROUND_STEPS


@functools.partial(jax.jit, static_argnames="update")
def _round(params, opt_state, key, data, *, update):
  """ROUND_STEPS minibatch updates."""
  x, y, weight = data

  def step(carry, key):
    params, opt_state = carry
    rows = jax.random.randint(key, (min(BATCH, len(x)),), 0, len(x))
    grads = jax.grad(_loss)(params, x[rows], y[rows], weight)
    updates, opt_state = update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), None

  keys = jax.random.split(key, ROUND_STEPS)
  return jax.lax.scan(step, (params, opt_state), keys)[0]


@jax.jit
def _loss(params, x, y, weight):
  """Mean squared error in metres: `weight` undoes the standardisation."""
  return jnp.mean(jnp.square((_network(params, x) - y) * weight))


def _network(params, x):
  """Dense layers with ReLU between: [M,F] -> [M,2H]."""
  *hidden, (last, last_bias) = params
  for kernel, bias in hidden:
    x = jax.nn.relu(x @ kernel + bias)
  return x @ last + last_bias


class _Standard:
  """Zero mean and unit deviation per column; constant columns become zero."""

  def __init__(self, mean, scale):
    self.mean, self.scale = mean, scale

  @classmethod
  def of(cls, values):
    scale = values.std(0)
    return cls(values.mean(0), np.where(scale > 1e-6, scale, np.float32(0)))

  def forward(self, values):
    return (values - self.mean) / np.where(self.scale, self.scale, np.inf)

  def backward(self, values):
    return values * self.scale + self.mean
