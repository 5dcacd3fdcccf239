"""What it means for two arrays to agree, and how a comparison is told.

The bounds are for float32. At the size of the golden cases the official model
differs from itself in float64 by a tenth of them.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Quantity:
  """Error of one array. `ok` is None only with a `why`."""

  name: str
  max_abs: float
  max_rel: float
  ok: bool | None
  why: str = ""

  def record(self):
    """As JSON, which has no infinity: an unmeasurable error is null."""
    finite = lambda x: x if np.isfinite(x) else None
    return {"name": self.name, "max_abs": finite(self.max_abs),
            "max_rel": finite(self.max_rel), "ok": self.ok, "why": self.why}


def _error(got, want):
  if not want.size:
    return 0.0, 0.0
  diff = np.abs(got - want)
  scale = np.abs(want).max()
  return float(diff.max()), float(diff.max() / scale) if scale else 0.0


def compare(name, got, want, rule):
  """Quantity of two arrays; `rule(got, want)` says whether they agree."""
  got, want = np.asarray(got), np.asarray(want)
  if got.shape != want.shape:
    return Quantity(name, float("inf"), float("inf"), False,
                    f"shape {got.shape}, want {want.shape}")
  got, want = got.astype(np.float64), want.astype(np.float64)
  finite = bool(np.isfinite(got).all())
  return Quantity(name, *(_error(got, want) if finite else (np.inf, np.inf)),
                  finite and bool(rule(got, want)))


def skipped(name, why):
  return Quantity(name, 0.0, 0.0, None, why)


def elementwise(got, want):
  return np.all(np.abs(got - want) <= 2e-5 + 1e-4 * np.abs(want))


def relative(bound):
  return lambda got, want: np.all(np.abs(got - want) <= bound * np.abs(want))


def of_largest(got, want):
  return np.abs(got - want).max(initial=0) <= 1e-5 * np.abs(want).max(initial=0)


def absolute(got, want):
  return np.all(np.abs(got - want) <= 1e-5)


def equal(got, want):
  return np.array_equal(got, want)


def gradient(got, want):
  return np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want) + 5e-7
