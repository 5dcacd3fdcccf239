"""The whole evaluation: plan, shuffle the images, fit yardsticks, score.

Everything is scored on the same windows. Reads no config: the caller brings a
predictor, a loader and the windows. Axes: M windows, P history, H steps.
"""

import numpy as np

from data_pipeline import errors
from drivemoe_jax.evaluators import open_loop, score, subsets, yardsticks
from drivemoe_jax.evaluators import predict as prediction

SPEED = 0  # column of the proprioception


def evaluate(predict, load, windows, train, *, to_metres, limit=None, seed=0,
             batch_size=32, skip_cap=0.0, progress=lambda text: None):
  """Scores a model.

  Args:
    predict: batch -> predictions, from predict.sampler.
    load: window ids [M] -> evaluation batches in that order.
    windows: the windows to evaluate on. train: those the model was trained on.
    to_metres: normalised [M,H,2] -> metres.
    limit: evaluate at most so many windows, evenly spread.
    seed: of the image shuffle and of the blind MLP.
    batch_size: of the official numbers.
    skip_cap: share of the windows that the loader may leave out.
    progress: called with a line of text now and then.

  Returns:
    (scores for evaluation.json, arrays for predictions.npz).

  Raises:
    DataError: there is no window to evaluate, or too many are unreadable.
  """
  if not len(windows):
    raise errors.DataError(
        "no window to evaluate; name more validation routes")
  ids = subsets.spread(len(windows), limit)

  def counted(what):
    return lambda done: progress(f"{what}: {done} of {len(ids)} windows")

  seen = prediction.collect(predict, load(ids), counted("planning"))
  asked, ids = len(ids), seen["sample_id"]
  left_out = asked - len(ids)  # unreadable ones, where the loader skips those
  allowed = int(np.ceil(skip_cap * asked))
  if left_out > allowed or not len(ids):
    raise errors.DataError(
        f"{left_out} of {asked} windows have unreadable images, skip_cap "
        f"{skip_cap:g} allows {allowed}; repair the routes")
  arrays = _facts(windows, ids) | _plans(seen, to_metres)
  arrays["constant_velocity"] = yardsticks.constant_velocity(
      arrays["speed"], arrays["gt"].shape[1])
  blind, fit = yardsticks.fit_ego_mlp(
      yardsticks.ego(train), train.action, train.route_index, seed=seed)
  arrays["ego_mlp"] = blind(yardsticks.ego(windows)[ids])
  other = None
  order = _exchange(windows.route_index[ids], seed, progress)
  if order is not None:
    other = prediction.collect(
        predict,
        prediction.with_images_of(load(ids[order]), seen, order),
        counted("planning with shuffled images"))
    arrays["shuffled"] = to_metres(other["predicted_action"])
  scores = _scores(arrays, seen, other, fit, batch_size)
  return scores | {"left_out": left_out}, arrays


def _exchange(route, seed, progress):
  """The image shuffle, or None with a word where routes are too few."""
  try:
    return subsets.cross_route_permutation(route, seed)
  except errors.DataError as error:
    progress(f"no shuffled images: {error}")
    return None


def _facts(windows, ids):
  """What the files say about the evaluated windows."""
  heading = windows.future_heading[ids]                  # [M,H]
  return {
      "sample_id": ids,
      "route": np.array(windows.routes)[windows.route_index[ids]],
      "frame": windows.frame[ids],
      "gt": windows.action[ids],
      "goal": windows.goal[ids],
      "speed": windows.proprio[ids, -1, SPEED],
      "camera": _labels(windows.camera, ids),
      "skill": _labels(windows.skill, ids),
      "heading_change": subsets.heading_change(heading),
      "turns": subsets.turns(heading),
      "begins_to_brake": subsets.begins_to_brake(
          windows.proprio[ids, :, SPEED], windows.future_speed[ids]),
      "valid": np.ones(len(ids), bool),  # a reader may strike windows out
  }


def _labels(labels, ids):
  """Labels of the evaluated windows, -1 throughout where there are none."""
  return np.full(len(ids), -1) if labels is None else labels[ids]


def _plans(seen, to_metres):
  """What the model planned and chose; view -1: it has no camera router."""
  arrays = {"pred": to_metres(seen["predicted_action"]),
            "view": seen.get(
                "predicted_view", np.full(len(seen["action"]), -1))}
  for name in ("camera_logits", "skill_logits"):
    if f"predicted_{name}" in seen:
      arrays[name] = seen[f"predicted_{name}"]
  return arrays


def _scores(arrays, seen, other, fit, batch_size):
  """Everything that evaluation.json says."""
  masks = score.masks(arrays["turns"], arrays["begins_to_brake"])

  def scored(name):
    return score.trajectory(
        arrays[name], arrays["gt"], masks, arrays["skill"])

  model, labels = scored("pred"), {k: arrays[k] for k in score.ROUTERS}
  routers = score.routers(arrays, labels)
  blind = {name: scored(name) for name in ("constant_velocity", "ego_mlp")}
  result = {
      "n": len(arrays["gt"]),
      "routes": len(np.unique(arrays["route"])),
      "horizon": arrays["gt"].shape[1],
      "hz": open_loop.HZ,
      "windows_sha256": score.windows_sha256(
          arrays["route"], arrays["frame"]),
      "open_loop": model | open_loop.official(
          arrays["pred"], arrays["gt"], seen["predicted_action"],
          seen["action"], batch_size),
      "routers": routers,
      "yardsticks": {
          name: {"open_loop": part} | score.against(model, part)
          for name, part in blind.items()},
      "shuffled_images": None,
      "definitions": score.DEFINITIONS,
  }
  result["yardsticks"]["ego_mlp"]["fit"] = fit
  if other is not None:
    logits = {k.removeprefix("predicted_"): v for k, v in other.items()}
    result["shuffled_images"] = score.shuffled(
        model, scored("shuffled"), routers, score.routers(logits, labels))
  return result
