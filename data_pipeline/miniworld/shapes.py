"""What things look like: cars, people, lights, houses and trees as flat quads.

A Mesh is a bag of quads in a local frame (x forward, y right, z up, origin on
the ground below the centre). Quads face one way; a thin detail such as a
window is one quad a little in front of its wall.

Axes: Q quads, 4 corners, 3 coordinates or RGB.
"""

import dataclasses

import numpy as np

GLASS = (38, 46, 58)
TYRE = (24, 24, 26)
SHADE = {"+x": 0.92, "-x": 0.86, "+y": 0.74, "-y": 1.0, "+z": 1.12}

# Corners of a unit box's faces, seen from outside; the bottom is never seen.
FACES = {
    "+x": ((1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1)),
    "-x": ((-1, 1, -1), (-1, -1, -1), (-1, -1, 1), (-1, 1, 1)),
    "+y": ((1, 1, -1), (-1, 1, -1), (-1, 1, 1), (1, 1, 1)),
    "-y": ((-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)),
    "+z": ((-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)),
}


@dataclasses.dataclass
class Mesh:
  """Quads [Q,4,3] in metres and their colours [Q,3] (RGB 0..255, float)."""

  quads: np.ndarray
  colours: np.ndarray

  def placed(self, position, yaw):
    """Quads in the world: [Q,4,3]."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = np.moveaxis(self.quads, -1, 0)
    return np.stack([cos * x - sin * y + position[0],
                     sin * x + cos * y + position[1], z], -1)


class Sculptor:
  """Collects boxes and details into a Mesh, in painting order."""

  def __init__(self):
    self._quads, self._colours = [], []

  def box(self, centre, half, colour, shine=True):
    for face, corners in FACES.items():
      self._quads.append(np.array(corners, float) * half + centre)
      shade = SHADE[face] if shine else 1.0
      self._colours.append(np.clip(np.array(colour, float) * shade, 0, 255))
    return self

  def detail(self, face, centre, half, colour):
    """One quad of the box (centre, half) facing `face`, unshaded."""
    self._quads.append(np.array(FACES[face], float) * half + centre)
    self._colours.append(np.array(colour, float))
    return self

  def mesh(self):
    return Mesh(np.array(self._quads), np.array(self._colours))


def vehicle(extent, colour, tail="dark"):
  """A car or a van.

  Args:
    extent: half length, width, height [m]; half height above 1 m is a van.
    colour: RGB. tail: its lamps, a key of TAILS.
  """
  length, width, height = extent
  top, sculptor = 2 * height, Sculptor()
  van = height > 1.0
  body = top if van else 0.58 * top
  sculptor.box((0, 0, (0.22 + body) / 2), (length, width, (body - 0.22) / 2),
               colour)
  _wheels(sculptor, length, width)
  eps = 0.01
  if van:
    glass = (0.62 * top, 0.16 * top)
    sculptor.detail("+x", (eps, 0, glass[0]), (length, 0.85 * width, glass[1]),
                    GLASS)
    sculptor.detail("-x", (-eps, 0, glass[0]), (length, 0.7 * width,
                                                0.7 * glass[1]), GLASS)
    for face, sign in (("+y", 1), ("-y", -1)):
      sculptor.detail(face, (0.6 * length, sign * eps, glass[0]),
                      (0.3 * length, width, glass[1]), GLASS)
  _lamps(sculptor, length, width, body, tail)
  if not van:
    roof = (top - body) / 2
    sculptor.box((-0.12 * length, 0, body + roof),
                 (0.52 * length, 0.86 * width, roof), GLASS)
    sculptor.detail("+z", (-0.12 * length, 0, body + roof),
                    (0.5 * length, 0.84 * width, roof + eps), colour)
  return sculptor.mesh()


def _wheels(sculptor, length, width):
  for along in (-0.6 * length, 0.6 * length):
    for face, sign in (("+y", 1), ("-y", -1)):
      sculptor.detail(face, (along, sign * 0.01, 0.32), (0.34, width, 0.32),
                      TYRE)


# Tail lamps: half width, half height [m], RGB. Large when lit, so that few
# pixels tell it.
TAILS = {"dark": (0.2, 0.1, (122, 20, 18)),
         "brakes": (0.36, 0.24, (420, 70, 50)),
         "warns": (0.34, 0.26, (255, 146, 0))}


def _lamps(sculptor, length, width, body, tail):
  wide, high, colour = TAILS[tail]
  for sign in (-1, 1):
    sculptor.detail("-x", (-0.012, sign * 0.74 * width, 0.72 * body),
                    (length, wide, high), colour)
    sculptor.detail("+x", (0.012, sign * 0.74 * width, 0.6 * body),
                    (length, 0.22, 0.1), (255, 250, 224))
  sculptor.detail("-x", (-0.011, 0, 0.42 * body), (length, 0.3, 0.07),
                  (225, 225, 220))


def emergency_vehicle(extent, colour):
  """A van, truck or car with a blue light bar and a bright band."""
  length, width, height = extent
  car, top = vehicle(extent, colour), 2 * height
  sculptor = Sculptor()
  sculptor.box((0.3 * length, 0, top + 0.14), (0.25, 0.8 * width, 0.14),
               (30, 90, 255), shine=False)
  sculptor.box((-0.8 * length, 0, top + 0.12), (0.15, 0.6 * width, 0.12),
               (30, 90, 255), shine=False)
  for face, sign in (("+y", 1), ("-y", -1)):
    sculptor.detail(face, (0, sign * 0.012, 0.42 * top),
                    (0.9 * length, width, 0.07 * top), (250, 220, 40))
  for face, sign in (("+x", 1), ("-x", -1)):
    sculptor.detail(face, (sign * 0.013, 0, 0.42 * top),
                    (length, 0.8 * width, 0.07 * top), (250, 220, 40))
  lights = sculptor.mesh()
  return Mesh(np.concatenate([car.quads, lights.quads]),
              np.concatenate([car.colours, lights.colours]))


def cone():
  """A traffic cone, in steps."""
  sculptor = Sculptor()
  for half, bottom, top, colour in (
      (0.24, 0.0, 0.06, (40, 40, 42)), (0.16, 0.06, 0.35, (240, 98, 24)),
      (0.12, 0.35, 0.55, (242, 240, 236)), (0.08, 0.55, 0.85, (240, 98, 24))):
    sculptor.box((0, 0, (bottom + top) / 2), (half, half, (top - bottom) / 2),
                 colour)
  return sculptor.mesh()


def warning_board(half):
  """A trailer with a board in red and white stripes."""
  length, width, height = half
  sculptor = Sculptor()
  sculptor.box((0, 0, 0.45), (length, 0.8 * width, 0.3), (120, 122, 126))
  sculptor.box((-0.5 * length, 0, 1.0 * height), (0.12, width, 0.9 * height),
               (236, 234, 228))
  for i in range(4):
    z = 2 * height * (i + 0.75) / 4.8
    sculptor.detail("-x", (-0.5 * length - 0.01, 0, z),
                    (0.12, width, 0.14 * height), (214, 34, 30))
  return sculptor.mesh()


def barrier(half):
  """A block in red and white that closes a lane."""
  length, width, height = half
  sculptor = Sculptor()
  for i in range(6):
    colour = (222, 40, 34) if i % 2 else (238, 236, 230)
    sculptor.box((0, (i - 2.5) * width / 3, height),
                 (length, width / 6, height), colour)
  return sculptor.mesh()


def stop_sign():
  """A red plate with a white bar, large as lamps are, on a pole."""
  sculptor = Sculptor()
  sculptor.box((0, 0, 1.1), (0.06, 0.06, 1.1), (120, 122, 124))
  for wide, high in ((1.0, 0.48), (0.8, 0.74), (0.48, 1.0)):
    sculptor.box((-0.1, 0, 2.6), (0.03, wide, high), (206, 22, 24),
                 shine=False)
  sculptor.detail("-x", (-0.14, 0, 2.6), (0.0, 0.74, 0.19), (246, 246, 246))
  return sculptor.mesh()


def walker(extent, shirt, trousers, skin):
  """A person: legs, torso, head."""
  length, width, height = extent
  top = 2 * height
  return (Sculptor()
          .box((0, 0, 0.24 * top), (0.6 * length, 0.8 * width, 0.24 * top),
               trousers)
          .box((0, 0, 0.66 * top), (0.8 * length, width, 0.19 * top), shirt)
          .box((0, 0, 0.93 * top), (0.14, 0.14, 0.08 * top), skin).mesh())


# Lamps shine: more than white, so that dusk and rain leave them bright.
LAMPS = {0: (420, 60, 46), 1: (420, 330, 50), 2: (60, 390, 180)}


def traffic_light(state, reach, beyond):
  """A low head on a pole at the kerb, and a large one over the junction.

  Local x is the direction in which the watching driver travels; the pole
  stands at y = 0. The large head hangs `beyond` metres behind the pole and
  `reach` metres to the left of it: there it is in the front camera's picture
  up to the line and at it, where a head at the line is not.
  """
  sculptor = Sculptor()
  sculptor.box((0, 0, 1.35), (0.1, 0.1, 1.35), (70, 72, 74))
  for along, side, height, size in ((beyond, -reach, 5.2, 2.0),
                                    (0.0, 0.0, 2.7, 0.75)):
    sculptor.box((along - 0.2, side, height), (0.12, 0.5 * size, 1.1 * size),
                 (26, 28, 30), shine=False)
    for lamp, z in ((0, 0.7), (1, 0.0), (2, -0.7)):
      lit = lamp == state
      colour = LAMPS[lamp] if lit else (54, 54, 54)
      wide, high = (0.48, 0.36) if lit else (0.3, 0.3)
      sculptor.detail("-x", (along - 0.21, side, height + z * size),
                      (0.12, wide * size, high * size), colour)
  return sculptor.mesh()


def building(half, colour, window, floors):
  """A block with window bands; long fronts are cut so that they sort well."""
  length, width, height = half
  sculptor = Sculptor()
  sculptor.box((0, 0, height), half, colour)
  for floor in range(floors):
    z = 2 * height * (floor + 0.6) / floors
    band = 0.45 * height / floors
    for face, offset in (("-x", (-0.02, 0)), ("+x", (0.02, 0)),
                         ("-y", (0, -0.02)), ("+y", (0, 0.02))):
      sculptor.detail(face, (*offset, z), (
          length if face[1] == "x" else 0.8 * length,
          width if face[1] == "y" else 0.8 * width, band), window)
  return sculptor.mesh()


def tree(radius, height, leaf):
  return (Sculptor()
          .box((0, 0, 0.25 * height), (0.14, 0.14, 0.25 * height),
               (92, 70, 50))
          .box((0, 0, 0.7 * height), (radius, radius, 0.3 * height),
               leaf).mesh())


def hedge(half, colour):
  """A wall, fence or hedge: a plain low box."""
  return Sculptor().box((0, 0, half[2]), half, colour).mesh()
