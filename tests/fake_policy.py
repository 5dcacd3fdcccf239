"""A stand-in for policy.Policy without a model: a plan that tells its cause."""

import threading

import numpy as np

from data_pipeline import errors, spec


class FakePolicy:
  """Answers a plan that starts at the step plus the mean of the state, times
  `tell` in metres, and goes ahead at 6 m/s from there.

  `trouble` {step: exception} is raised; `gate`, once cleared, holds plans
  back; `batches` lists the steps that were planned together.
  """

  def __init__(self, side=8, tell=1.0):
    self.side, self.tell, self.batches, self.trouble = side, tell, [], {}
    self.gate = threading.Event()
    self.gate.set()
    self.metadata = {
        "protocol": 1, "image_size": side, "history": 5, "horizon": 10,
        "images": [list(image) for image in spec.IMAGES]}

  def example(self, step=0):
    return {"images": np.zeros((7, self.side, self.side, 3), np.uint8),
            "proprio": np.zeros((5, 10), np.float32), "step": step}

  def check(self, observation):
    if not isinstance(observation, dict) or "step" not in observation:
      raise errors.DataError("observation without a step")
    return observation

  def plan(self, observations):
    self.gate.wait()
    self.batches.append([o["step"] for o in observations])
    for o in observations:
      if o["step"] in self.trouble:
        raise self.trouble[o["step"]]
    road = np.stack([0.6 * np.arange(10), np.zeros(10)], -1)
    return [{"actions": (road + self.tell * (o["step"] + o["proprio"].mean())
                         ).astype(np.float32)} for o in observations]
