"""A trained run as a driver: observations in, plans in metres out.

Every program that drives calls this: the policy server, the CARLA agent in the
same process, a notebook. Plans depend on (seed, step, observation) only. The
pedals are data_pipeline.control's. Axes: B observations, P history, R plan
rows, S image side.
"""

import hashlib
import time

import jax
import numpy as np

from data_pipeline import errors, images, normalize, order, prompt, spec
from drivemoe_jax.evaluators import predict

PROTOCOL = 1  # of the observations and answers below


class Policy:
  """A model with parameters, ready to be asked for plans.

  An observation is a dict:
    images [7,S,S,3] uint8 RGB, in the order of spec.IMAGES;
    proprio [P,10] float32, raw units, columns as in windows.Windows.proprio;
    step int, number of the tick, which the noise depends on;
    augment bool, optional: crop and jitter the images, as the release does.
  An answer:
    actions [R,2] float32, m: where the car shall be (forward, right) every
      0.1 s, row 0 now;
    camera, skill int: what the routers chose, where the model has them;
    skill_weights [E] float32: the router's weight of every skill.
  """

  def __init__(self, model, params, statistics, *, prompt_ids, steps=10,
               clip=1.0, noise_scale=1.0, seed=0, checkpoint_step=0):
    """Args:
      model, params: a DriveMoE module and its parameters.
      statistics: normalize.Statistics of the training windows.
      prompt_ids: of the run's prompt.
      steps, clip, noise_scale: of the sampler, see predict.sampler.
      seed: of the noise, and of the augmentation where it is asked for.
      checkpoint_step: for the metadata.
    """
    self._statistics, self._seed = statistics, seed
    self._sizes = (model.history, model.image_size)
    self._text = prompt.text_ids(prompt_ids, model.text_len)
    weights = predict.serving_weights(params, model.dtype)
    self._sample = predict.sampler(
        model, weights, steps=steps, clip=clip, noise_scale=noise_scale,
        seed=seed)
    self.metadata = {
        "policy": "drivemoe_jax", "protocol": PROTOCOL,
        "image_size": model.image_size, "history": model.history,
        "horizon": model.horizon, "plan_interval_s": 0.1,
        "images": [list(image) for image in spec.IMAGES],
        "checkpoint_step": checkpoint_step, "seed": seed,
        "flow_steps": steps, "clip": clip, "noise_scale": noise_scale,
        "weights": _digest(weights)}

  @classmethod
  def of_run(cls, run, *, steps=None, noise_scale=None, seed=0):
    """The policy of a build.Run; what is None is as the run's config says."""
    flow = run.config.flow
    return cls(run.model, run.params, run.statistics,
               prompt_ids=run.config.prompt_ids, steps=steps or flow.steps,
               clip=flow.clip, seed=seed, checkpoint_step=int(run.step),
               noise_scale=(flow.noise_scale if noise_scale is None
                            else noise_scale))

  def warmup(self, max_batch=1, *, augment=False):
    """Compiles all batch sizes up to max_batch, and the augmentation if it
    will be asked for; returns the seconds it took."""
    start = time.monotonic()
    for size in batch_sizes(max_batch):
      self.plan([dict(self.example(), augment=augment)] * size)
    return time.monotonic() - start

  def example(self, seed=0):
    """An observation of noise."""
    history, side = self._sizes
    rng = np.random.default_rng(seed)
    return {"images": rng.integers(0, 256, (len(spec.IMAGES), side, side, 3),
                                   np.uint8),
            "proprio": rng.standard_normal((history, 10), np.float32),
            "step": seed}

  def check(self, observation):
    """Returns the observation; DataError if it is none."""
    if not isinstance(observation, dict):
      raise errors.DataError(
          f"observation is a {type(observation).__name__}; send a map of "
          "images, proprio and step")
    history, side = self._sizes
    want = {"images": ("uint8", (len(spec.IMAGES), side, side, 3)),
            "proprio": ("float32", (history, 10))}
    keys = set(observation)
    if keys - {"augment"} != {*want, "step"}:
      raise errors.DataError(
          f"observation has {sorted(map(str, keys))[:8]}; send images, proprio "
          "and step, and augment if wanted")
    for key, (dtype, shape) in want.items():
      array = observation[key]
      if not isinstance(array, np.ndarray) or (
          str(array.dtype), array.shape) != (dtype, shape):
        found = (f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray)
                 else f"a {type(array).__name__}")
        raise errors.DataError(
            f"observation[{key!r}] is {found}, want {dtype}{shape}")
    if not np.isfinite(observation["proprio"]).all():
      raise errors.DataError(
          "observation['proprio'] is not finite; brake until the sensors are "
          "back")
    step = observation["step"]
    if type(step) is not int or not 0 <= step < 2**32:
      raise errors.DataError(
          f"observation['step'] is {step!r:.40}, want an int from 0 to "
          f"{2**32 - 1}")
    if type(observation.get("augment", False)) is not bool:
      raise errors.DataError("observation['augment'] must be true or false")
    return observation

  def plan(self, observations):
    """Plans for several cars at once.

    Args:
      observations: list of B dicts, see the class. They are padded to a size
        that warmup compiled; another B may change the last bits of a plan.

    Returns:
      list of B answers.

    Raises:
      DataError: an observation that is none.
      NumericsError: a plan that is not finite.
    """
    observations = [self.check(o) for o in observations]
    count = len(observations)
    rows = observations + observations[-1:] * (padded(count) - count)
    proprio = np.stack([o["proprio"] for o in rows])       # [B,P,10]
    proprio = normalize.apply("proprio", proprio, self._statistics)
    result = self._sample({
        "images": np.stack([self._pixels(o) for o in rows]),
        "text": np.tile(self._text, (len(rows), 1)),
        "proprio": proprio, "goal": proprio[:, -1, 8:10],
        "sample_id": np.array([o["step"] for o in rows])})
    actions = normalize.invert("action", result["action"], self._statistics)
    if not np.isfinite(actions[:count]).all():
      raise errors.NumericsError(
          "the plan is not finite; drive with an earlier checkpoint (--step)")
    answers = [{"actions": action} for action in actions[:count]]
    for i, answer in enumerate(answers):
      if "view" in result:
        answer["camera"] = int(result["view"][i])
      if "skill_logits" in result:
        answer["skill"] = int(result["skill_logits"][i].argmax())
        answer["skill_weights"] = _shares(result["skill_logits"][i])
    return answers

  def _pixels(self, observation):
    """[7,S,S,3] uint8, augmented where asked for."""
    if not observation.get("augment", False):
      return observation["images"]
    draws = order.uniform(self._seed, observation["step"],
                          (len(spec.IMAGES), len(images.DRAWS)))
    return images.augment(observation["images"], *images.augmentation(
        draws, shared_crop=True)).numpy()


def _digest(params):
  """Of names and values: tells one model's plans from another's."""
  known = hashlib.blake2b(digest_size=8)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    known.update(jax.tree_util.keystr(path).encode())
    known.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
  return known.hexdigest()


def _shares(logits):
  """A router's weight of each skill, of all and not the top ones: [E] -> [E].
  """
  odds = np.exp(logits - logits.max())
  return (odds / odds.sum()).astype(np.float32)


def padded(count):
  """The batch size that `count` observations are computed in: 1, 2, 4, ..."""
  return 1 << (count - 1).bit_length()


def batch_sizes(max_batch):
  """All sizes of batches of up to max_batch observations."""
  return sorted({padded(count) for count in range(1, max_batch + 1)})
