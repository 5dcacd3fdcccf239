"""One object with every score of a run: model, yardsticks, shuffled images.

All methods are scored on the same windows; the subsets are those of
`subsets.py`. Axes: M windows, H steps, 2 = (forward, right) metres.
"""

import hashlib

import numpy as np

from drivemoe_jax.evaluators import open_loop, routing, subsets, yardsticks

ROUTERS = {"camera": routing.CAMERA_NAMES, "skill": routing.SKILL_NAMES}

DEFINITIONS = {
    "open_loop": open_loop.DEFINITIONS,
    "routers": routing.DEFINITIONS,
    "subsets": subsets.DEFINITIONS,
    "yardsticks": yardsticks.DEFINITIONS | {
        "model_lower_by_percent": "100 * (1 - model / yardstick), of the ade",
        "model_ratio": "model / yardstick, of the ade, per subset",
    },
    "shuffled_images": {
        "how": "every window gets the images of a window of another route, and "
               "keeps its ego state, navigation point, labels and noise",
        "ade_increase_percent": "100 * (shuffled / true - 1), per subset",
        "accuracy_drop_points": "percentage points of router accuracy lost",
    },
    "windows_sha256": "of the evaluated windows' routes and frames, in order: "
                      "scores compare only where it agrees",
}


def masks(turning, braking):
  """The windows of each subset, from those of two: [M] bool each."""
  return {"all": np.ones(len(turning), bool), "turns": turning,
          "begins_to_brake": braking, subsets.CRITICAL: turning | braking}


def trajectory(pred, gt, masks, skill):
  """open_loop.summary plus the same in short for each subset and skill.

  Args:
    pred, gt: [M,H,2] metres.
    masks: {subset: [M] bool}.
    skill: [M] label ids, -1 throughout without labels.
  """
  def short(mask):
    part = open_loop.summary(pred[mask], gt[mask])
    return part and {name: part[name] for name in ("n", "ade", "fde")}

  return open_loop.summary(pred, gt) | {
      "subsets": {name: short(mask) for name, mask in masks.items()},
      "per_skill": {name: short(skill == i)
                    for i, name in enumerate(routing.SKILL_NAMES)},
  }


def routers(predicted, labels):
  """Reports of both routers; None without labels or without a router.

  Args:
    predicted: {camera_logits [M,V], skill_logits [M,E]}, either may lack.
    labels: {camera: [M], skill: [M]} ids, -1 throughout without labels.
  """
  result = dict.fromkeys(ROUTERS)
  for router, names in ROUTERS.items():
    logits = predicted.get(f"{router}_logits")
    if logits is not None and (labels[router] >= 0).all():
      result[router] = routing.report(
          labels[router], logits.argmax(-1),
          routing.class_names(names, logits.shape[-1]))
  return result


def against(model, other):
  """How the model compares with a yardstick; both from `trajectory`."""
  ratio = _ratios(model, other)
  return {"model_lower_by_percent":
              None if ratio["all"] is None else 100 * (1 - ratio["all"]),
          "model_ratio": ratio}


def shuffled(model, other, model_routers, other_routers):
  """What shuffled images cost: errors of both runs, and the differences.

  Args:
    model, other: `trajectory` with true and with shuffled images.
    model_routers, other_routers: `routers` likewise.
  """
  growth = _ratios(other, model)
  return {
      "open_loop": other,
      "ade_increase_percent": {
          name: ratio and 100 * (ratio - 1) for name, ratio in growth.items()},
      "accuracy": {name: report and report["accuracy"]
                   for name, report in other_routers.items()},
      "accuracy_drop_points": {
          name: report and 100 * (model_routers[name]["accuracy"]
                                  - report["accuracy"])
          for name, report in other_routers.items()},
  }


def _ratios(part, whole):
  """ADE of part / ADE of whole per subset; None where it has no meaning."""
  result = {}
  for name, below in whole["subsets"].items():
    above = part["subsets"][name]
    known = below and below["ade"]
    result[name] = above["ade"] / below["ade"] if known else None
  return result


def windows_sha256(route_names, frames):
  """Names the window set: sha256 over `route/frame` lines, in order."""
  digest = hashlib.sha256()
  for route, frame in zip(route_names, frames):
    digest.update(f"{route}/{int(frame):05d}\n".encode())
  return digest.hexdigest()
