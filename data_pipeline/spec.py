"""What a batch holds: one contract for training, evaluation, tests, policy.

Also the two label vocabularies (which extra camera to look at, which driving
skill is on) and the table of the seven images. Axes: B samples, S image side,
P history frames, H horizon, T text length.
"""

import enum
from typing import NamedTuple

import numpy as np

from data_pipeline import errors, prompt


class Camera(enum.IntEnum):
  """Candidate views of the camera router; view id v is image v + FRONTS."""

  FRONT_LEFT = 0
  FRONT_RIGHT = 1
  BACK = 2
  BACK_LEFT = 3
  BACK_RIGHT = 4


class Skill(enum.IntEnum):
  """Driving skills, one expert each."""

  MERGING = 0
  PARKING_EXIT = 1
  OVERTAKING = 2
  EMERGENCY_BRAKE = 3
  GIVE_WAY = 4
  TRAFFIC_SIGN = 5
  NORMAL = 6


# "NULL" means that no side view is needed. The release gives it the back
# camera's id; kept, because its class counts below include it.
CAMERA_OF_LABEL = {
    "CAM_FRONT_LEFT": Camera.FRONT_LEFT,
    "CAM_FRONT_RIGHT": Camera.FRONT_RIGHT,
    "CAM_BACK": Camera.BACK,
    "NULL": Camera.BACK,
    "CAM_BACK_LEFT": Camera.BACK_LEFT,
    "CAM_BACK_RIGHT": Camera.BACK_RIGHT,
}
# The release's text says that frames at a traffic light are NORMAL, but its
# loader gives them TRAFFIC_SIGN; the loader trained the weights, so it counts.
SKILL_OF_LABEL = {
    "MERGING": Skill.MERGING,
    "MERGING_HIGHWAY": Skill.MERGING,
    "MERGING_JUNCTION": Skill.MERGING,
    "PARKING_EXIT": Skill.PARKING_EXIT,
    "OVERTAKING": Skill.OVERTAKING,
    "EMERGENCY_BRAKE": Skill.EMERGENCY_BRAKE,
    "GIVEWAY": Skill.GIVE_WAY,
    "GIVEWAY_HIGHWAY": Skill.GIVE_WAY,
    "TRAFFIC_LIGHT": Skill.TRAFFIC_SIGN,
    "TRAFFIC_SIGN": Skill.TRAFFIC_SIGN,
    "NORMAL": Skill.NORMAL,
}

# Training windows per class in Bench2Drive Base-1000 at horizon 10.
CAMERA_COUNTS = (35105, 8865, 161717, 13671, 5990)
SKILL_COUNTS = (13304, 1036, 29921, 12064, 5200, 45332, 118491)

# The seven images: (camera folder, frames back in time at 10 Hz).
IMAGES = (
    ("rgb_front", 0),
    ("rgb_front", 1),
    ("rgb_front_left", 0),
    ("rgb_front_right", 0),
    ("rgb_back", 0),
    ("rgb_back_left", 0),
    ("rgb_back_right", 0),
)
FRONTS = 2  # images before the candidate views, as models.drivemoe counts them
CAMERA_FOLDERS = tuple(dict.fromkeys(folder for folder, _ in IMAGES))


class Field(NamedTuple):
  """One array of a batch; `shape` leaves out the leading batch axis."""

  shape: tuple
  dtype: str
  meaning: str
  optional: bool = False


def batch_spec(*, image_size=224, history=5, horizon=10, text_len=20):
  """Returns {key: Field} for a model of these sizes."""
  side = image_size
  return {
      "images": Field((len(IMAGES), side, side, 3), "uint8",
                      "RGB: front, front 0.1 s earlier, then the five views"),
      "text": Field((text_len,), "int32", "prompt token ids, 0 after the end"),
      "proprio": Field((history, 10), "float32",
                       "normalised state, oldest first, 0.1 s apart"),
      "goal": Field((2,), "float32",
                    "normalised navigation point (forward, right)"),
      "action": Field((horizon, 2), "float32",
                      "normalised future (forward, right); row 0 is now, or "
                      "0.1 s ahead with drop_current_point"),
      "camera": Field((), "int32", "view label 0..4", optional=True),
      "skill": Field((), "int32", "skill label 0..6", optional=True),
      "sample_id": Field((), "int64", "index of the window in its split"),
      "valid": Field((), "bool", "False on padding rows of an evaluation",
                     optional=True),
  }


BATCH_SPEC = batch_spec()


def check_batch(batch, spec=None):
  """Returns the number of samples B; refuses a batch that breaks the spec.

  Args:
    batch: {key: array [B, ...]}.
    spec: {key: Field}, by default the full-size BATCH_SPEC.

  Raises:
    DataError: a missing, unknown, misshapen or mistyped array.
  """
  spec = BATCH_SPEC if spec is None else spec
  unknown = sorted(set(batch) - set(spec))
  if unknown:
    raise errors.DataError(
        f"batch has unknown arrays {unknown}; the batch contract holds "
        f"{sorted(spec)}")
  missing = [k for k, f in spec.items() if k not in batch and not f.optional]
  if missing:
    raise errors.DataError(
        f"batch lacks {missing[0]!r}: {spec[missing[0]].meaning}; have "
        f"{sorted(batch)}")
  size = np.shape(batch["sample_id"])[:1] or ("batch",)
  for key, value in batch.items():
    field = spec[key]
    want = size + field.shape
    if tuple(value.shape) != want or str(value.dtype) != field.dtype:
      raise errors.DataError(
          f"batch[{key!r}] is {_show(value.shape, value.dtype)}, want "
          f"{_show(want, field.dtype)}: {field.meaning}")
  return int(size[0])


def _show(shape, dtype):
  return f"{dtype}[{','.join(map(str, shape))}]"


def alphas(counts):
  """Focal-loss weights of the classes: inverse counts that sum to one.

  A class without a single sample gets 0, for no sample can ask for it.
  """
  counts = np.asarray(counts, np.float64)
  inverse = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
  return tuple((inverse / inverse.sum()).tolist())


def fake_batch(batch_size, *, seed=0, prompt_ids=prompt.OFFICIAL_IDS,
               text_len=20, image_size=224, history=5, horizon=10):
  """Returns a seeded batch of noise that passes check_batch."""
  rng = np.random.default_rng(seed)
  spec = batch_spec(image_size=image_size, history=history, horizon=horizon,
                    text_len=text_len)
  normal = lambda key: rng.standard_normal(  # [B, ...]
      (batch_size, *spec[key].shape), np.float32)
  proprio = normal("proprio")
  text = prompt.text_ids(prompt_ids, text_len)
  return {
      "images": rng.integers(0, 256, (batch_size, *spec["images"].shape),
                             np.uint8),
      "text": np.tile(text, (batch_size, 1)),
      "proprio": proprio,
      "goal": proprio[:, -1, 8:10].copy(),
      "action": normal("action"),
      "camera": rng.integers(0, len(Camera), batch_size, np.int32),
      "skill": rng.integers(0, len(Skill), batch_size, np.int32),
      "sample_id": np.arange(batch_size, dtype=np.int64),
  }
