"""Each rule at its edge."""

import numpy as np
import pytest

from drivemoe_jax import tolerance as tol


@pytest.mark.parametrize("rule, want, within, outside", [
    (tol.elementwise, 1.0, 1.1e-4, 1.3e-4),
    (tol.elementwise, 0.0, 1.9e-5, 2.1e-5),
    (tol.relative(1e-5), 4.0, 3.9e-5, 4.1e-5),
    (tol.absolute, 4.0, 0.9e-5, 1.1e-5),
    (tol.gradient, 4.0, 4.0e-4, 4.1e-4),
    (tol.gradient, 0.0, 4.9e-7, 5.1e-7)])
def test_rules_at_their_edge(rule, want, within, outside):
  check = lambda d: tol.compare("x", [want + d], [want], rule).ok
  assert check(within) and not check(outside)


def test_intermediates_are_measured_against_the_largest():
  want = np.array([100.0, 0.0])
  check = lambda d: tol.compare("x", want + [0, d], want, tol.of_largest).ok
  assert check(0.9e-3) and not check(1.1e-3)


@pytest.mark.parametrize("got", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(got):
  q = tol.compare("x", [got], [got], tol.equal)
  assert q.ok is False and q.record()["max_abs"] is None


def test_another_shape_never_agrees():
  q = tol.compare("x", [1.0], [1.0, 1.0], tol.elementwise)
  assert q.ok is False and "(1,), want (2,)" in q.why
