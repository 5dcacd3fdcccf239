"""Where the release's data code does something odd: one named option each.

The defaults are what we recommend; OFFICIAL is what the release does, all of
it at once. docs/data.md tells what each one changes.
"""

import dataclasses

from data_pipeline import errors


@dataclasses.dataclass(frozen=True)
class Options:
  """How recordings become samples.

  Attributes:
    wrap_theta: past headings relative to now stay in (-pi, pi]; otherwise
      they jump by 2 pi where the car has crossed north.
    nan_heading: what a frame without compass takes its heading from: "box"
      (the ego's bounding box) or "zero" (no turn at all).
    drop_current_point: plan the points after now only; otherwise the first
      of the horizon is the present position, always (0, 0).
    tf_shared_seed: draw a crop's size, ratio and place as one number.
    eval_augment: crop and jitter the images of an evaluation too.
    statistics_any_horizon: take statistics of another horizon as they are.

  Raises:
    ConfigError: a heading source that does not exist.
  """

  wrap_theta: bool = True
  nan_heading: str = "box"
  drop_current_point: bool = False
  tf_shared_seed: bool = False
  eval_augment: bool = False
  statistics_any_horizon: bool = False

  def __post_init__(self):
    if self.nan_heading not in ("box", "zero"):
      raise errors.ConfigError(
          f"nan_heading is {self.nan_heading!r}; choose 'box' or 'zero'")


OFFICIAL = Options(
    wrap_theta=False, nan_heading="zero", drop_current_point=False,
    tf_shared_seed=True, eval_augment=True, statistics_any_horizon=True)
