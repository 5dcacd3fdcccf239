"""The rows of the comparison: eleven variants, each with several seeds.

Three are the paper's drivers, eight its Table 3 below the full model. A row is
named VARIANT-SEED. Reads no config: a variant says in flags what it changes.
"""

import dataclasses
import fnmatch

from data_pipeline import errors

SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to build the model.

  Attributes:
    name: of its rows. title: in words, for the page. argument: of the config.
    overrides: of config keys. images: that the model encodes in training.
  """

  name: str
  title: str
  argument: str
  overrides: tuple[str, ...] = ()
  images: int = 3


def _fixed(name, title, views, images):
  return Variant(name, title, f"views={views}", images=images)


VARIANTS = (
    Variant("pi0", "Drive-pi0: front camera, no experts", "views=front",
            ("model.moe_layers=0", "loss.skill=0.0"), images=2),
    Variant("token", "DriveMoE, token-level routing", "routing=token"),
    Variant("trajectory", "DriveMoE, trajectory-level routing (Table 3, row 9)",
            "routing=trajectory"),
    _fixed("front", "row 1: front", "front", 2),
    _fixed("left", "row 2: front, front left", "front+front_left", 3),
    _fixed("right", "row 3: front, front right", "front+front_right", 3),
    _fixed("back", "row 4: front, back", "front+back", 3),
    _fixed("sides", "row 5: front, both sides",
           "front+front_left+front_right", 4),
    _fixed("sides_back", "row 6: row 5 and back",
           "front+front_left+front_right+back", 5),
    _fixed("sides_backs", "row 7: row 6 and back right",
           "front+front_left+front_right+back+back_right", 6),
    Variant("unlabelled", "row 8: routed view, its router without labels",
            "supervision=none", images=7),
)
BY_NAME = {variant.name: variant for variant in VARIANTS}
# One of these takes the longest; their time sets the budget of all.
HEAVIEST = tuple(sorted(VARIANTS, key=lambda v: -v.images)[:2])
PAIR = ("trajectory", "pi0")  # whose difference the paper is about


@dataclasses.dataclass(frozen=True)
class Row:
  """A variant trained from one seed."""

  variant: Variant
  seed: int

  @property
  def name(self):
    return f"{self.variant.name}-{self.seed}"


def rows(pattern=None):
  """All rows, a seed of every variant before the next seed, or some of them.

  Args:
    pattern: comma-separated names with the wildcards of a shell.

  Raises:
    ConfigError: a pattern that no row has.
  """
  known = [Row(variant, seed) for seed in SEEDS for variant in VARIANTS]
  if pattern is None:
    return known
  parts = [part.strip() for part in pattern.split(",")]
  for part in parts:
    if not any(fnmatch.fnmatchcase(row.name, part) for row in known):
      raise errors.ConfigError(
          f"--rows {part!r} matches no row; a row is VARIANT-SEED, of "
          f"{', '.join(BY_NAME)} and {', '.join(map(str, SEEDS))}")
  return [row for row in known
          if any(fnmatch.fnmatchcase(row.name, part) for part in parts)]
