"""What lines a road: houses, trees, hedges, parked cars and strollers.

All of it is decoration or decoy: nothing here needs a reaction. It differs
per seed so strongly that only the road itself tells what to do.
"""

import numpy as np

from data_pipeline.miniworld import actors, render, scripts, shapes

WALLS = ((172, 120, 96), (198, 182, 150), (150, 152, 160), (122, 98, 84),
         (206, 204, 196), (110, 122, 132), (184, 150, 112), (146, 84, 74))
LEAVES = ((62, 104, 50), (88, 124, 56), (50, 88, 62), (128, 132, 60),
          (150, 110, 54))
SKIES = (  # zenith, horizon, light, fog range [1/m]
    ((92, 142, 206), (196, 216, 232), 1.0, (0.0005, 0.003)),
    ((150, 158, 168), (200, 204, 208), 0.9, (0.002, 0.008)),
    ((84, 106, 158), (232, 196, 158), 0.85, (0.001, 0.005)),
    ((178, 184, 190), (208, 212, 214), 0.95, (0.008, 0.014)),
    ((40, 46, 82), (170, 112, 92), 0.52, (0.002, 0.006)),      # dusk
    ((104, 110, 118), (146, 152, 158), 0.66, (0.010, 0.018)),  # rain
    ((198, 202, 206), (206, 210, 212), 0.92, (0.022, 0.034)),  # dense fog
)
FAIR = SKIES[:4]


def look(rng, skies):
  """(Look, weather number) of an episode under one of the skies."""
  weather = int(rng.integers(len(skies)))
  zenith, horizon, light, fog = skies[weather]
  return render.Look(zenith, horizon, float(rng.uniform(*fog)),
                     light * float(rng.uniform(0.88, 1.08))), weather


class Kerb:
  """One side of a road: a frame (along, out) beside a path.

  Attributes:
    side: +1 when houses are to the right of the path, -1 to the left.
    length: metres.
  """

  def __init__(self, path, offset, side, start=0.0):
    """Args: path of the road; offset of the kerb to its right [m]; where on
    the path the kerb begins [m]."""
    self.side, self.length = side, path.length - start
    self._path, self._offset, self._start = path, offset, start

  def point(self, along, out):
    """World point `along` the kerb and `out` of the road, [2]."""
    return self._path.point(self._start + along,
                            self._offset + self.side * out)

  def yaw(self, along):
    return self._path.heading_at(self._start + along)


def clear_of(things, roads, distance):
  """Those of `things` that keep their distance to all roads.

  Args:
    roads: paths. distance: least distance of any corner [m].
  """
  lines = np.concatenate([path.xy[::4] for path in roads])
  def is_clear(thing):
    corners = np.concatenate([thing.footprint(), [thing.position]])
    gap = corners[:, None] - lines
    return (gap ** 2).sum(-1).min() > distance ** 2
  return [thing for thing in things if is_clear(thing)]


def houses(rng, kerb, pavement):
  """Buildings, hedges and gaps behind the pavement of a kerb."""
  out, s = [], float(rng.uniform(0, 4))
  setback = pavement + float(rng.uniform(0.3, 5.0))
  while s < kerb.length - 4:
    length = float(rng.uniform(7, 16))
    kind = rng.choice(["house", "house", "hedge", "gap"])
    middle = s + length / 2
    if kind == "house":
      out += _house(rng, kerb, middle, length, setback)
    elif kind == "hedge":
      half = (length / 2, 0.3, float(rng.uniform(0.4, 1.1)))
      colour = LEAVES[rng.integers(len(LEAVES))]
      if rng.random() < 0.4:
        colour = WALLS[rng.integers(len(WALLS))]
      out.append(actors.scenery(shapes.hedge(half, colour), half,
                                kerb.point(middle, setback),
                                kerb.yaw(middle)))
    s += length + (float(rng.uniform(0, 5)) if rng.random() < 0.5 else 0.1)
  return out


def _house(rng, kerb, middle, length, setback):
  floors = int(rng.integers(1, 5))
  depth, colour = float(rng.uniform(4, 7)), WALLS[rng.integers(len(WALLS))]
  window = tuple(int(c) for c in rng.integers(40, 110, 3))
  pieces = max(1, round(length / 6))  # short fronts sort well by distance
  half = (length / pieces / 2, depth / 2, 1.5 * floors)
  extra = float(rng.uniform(0, 2.0))
  row = []
  for i in range(pieces):
    along = middle + (i - (pieces - 1) / 2) * length / pieces
    row.append(actors.scenery(
        shapes.building(half, colour, window, floors), half,
        kerb.point(along, setback + extra + depth / 2), kerb.yaw(along)))
  return row


def trees(rng, kerb, out):
  """Trees in a row, `out` metres behind the kerb; some roads have none."""
  if rng.random() < 0.35:
    return []
  row, s, step = [], float(rng.uniform(0, 8)), float(rng.uniform(8, 18))
  leaf = LEAVES[rng.integers(len(LEAVES))]
  while s < kerb.length:
    radius, height = float(rng.uniform(0.7, 1.5)), float(rng.uniform(4, 7))
    row.append(actors.scenery(
        shapes.tree(radius, height, leaf), (0.2, 0.2, height / 2),
        kerb.point(s, out)))
    s += step * float(rng.uniform(0.8, 1.3))
  return row


def parked_row(rng, kerb, strip, backward, keep_free=(), density=None):
  """Parked cars in the strip before a kerb: decoys that block nobody.

  Args:
    strip: width of the parking strip [m].
    backward: the cars head against the kerb's direction.
    keep_free: (from, to) stretches in kerb metres that stay empty.
    density: share of slots taken; None draws one.
  """
  if density is None:
    density = float(rng.choice([0.15, 0.4, 0.75]))
  row, s = [], float(rng.uniform(2, 8))
  while s < kerb.length - 4:
    free = any(a - 3.2 < s < b + 3.2 for a, b in keep_free)
    if rng.random() < density and not free:
      inward = -strip / 2 + float(rng.uniform(-0.05, 0.15))
      row.append(actors.vehicle(rng, kerb.point(s, inward),
                                kerb.yaw(s) + np.pi * backward,
                                state="static"))
    s += float(rng.uniform(6.4, 8.5))
  return row


def strollers(rng, kerb, count, walking=0.75):
  """(walkers, scripts): people on the pavement; a share of them walks."""
  people, walks = [], []
  for _ in range(count):
    back, along = rng.random() < 0.5, float(rng.uniform(0, kerb.length))
    person = actors.walker(rng, kerb.point(
        along, float(rng.uniform(0.8, 2.4))), kerb.yaw(along) + np.pi * back)
    people.append(person)
    if rng.random() < walking:
      walks.append(scripts.Stroll(person, float(rng.uniform(0.7, 1.6))))
  return people, walks
